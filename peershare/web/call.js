// The screen of a call: the tiles, the bar of buttons, and the panel with the people and the link.

import { CallTiles } from "./call-tiles.js";
import { callControls } from "./controls.js";
import { h, setText } from "./dom.js";
import { Invitation, memberList } from "./group.js";
import { buttonFor, keysAreOn } from "./keys.js";
import { connectionNotice } from "./notice.js";

/** @import {GroupSession} from "./types" */

const WIDE = 900; // px, from which the panel is open while one waits for the others

/** A screen, as `Screen` in types.d.ts. */
export class CallView {
	#session;
	#title = h("h1", { tabindex: "-1", dir: "auto" });
	#members;
	#invitation;
	#notice;
	#tiles;
	#panel;
	#controls;
	#isPanelOpen;
	#lifetime = new AbortController();

	/** @param {GroupSession} session @param {{leaveCall: () => void}} actions */
	constructor(session, { leaveCall }) {
		this.#session = session;
		this.#members = memberList(session);
		this.#invitation = new Invitation(session);
		this.#notice = connectionNotice(session);
		this.#panel = h(
			"aside",
			{ class: "panel", id: "people", hidden: true, "aria-label": "People and the link" },
			this.#members.element,
			this.#invitation.element,
		);
		// On small screens the panel covers the tiles.
		const isCovered = () => !this.#panel.hidden && getComputedStyle(this.#panel).position === "absolute";
		this.#tiles = new CallTiles(session, this.#title, isCovered);
		this.#controls = callControls(session, this.#panel, {
			leaveCall,
			togglePanel: () => this.#togglePanel(),
			togglePictureInPicture: () => this.#tiles.togglePictureInPicture(),
		});
		this.#isPanelOpen = innerWidth >= WIDE && session.client.call.participants.size <= 1;
		this.element = h(
			"main",
			{ class: "call" },
			h("header", { class: "bar" }, this.#title, this.#notice.element),
			h("div", { class: "middle" }, this.#tiles.element, this.#panel),
			this.#controls.element,
		);
		this.focus = this.#title;
		const { signal } = this.#lifetime;
		addEventListener("keydown", (event) => this.#handleKey(event), { signal });
		session.devices.addEventListener("change", () => this.update(), { signal });
		keepAwake(signal);
		this.update();
	}

	update() {
		setText(this.#title, this.#session.lastGroup?.name ?? "");
		const isShown = this.#isPanelOpen && this.#session.group !== null; // a lost group has nothing to show
		if (!isShown && this.#panel.contains(document.activeElement)) this.#title.focus();
		this.#panel.hidden = !isShown;
		for (const part of [this.#members, this.#invitation, this.#notice, this.#controls]) part.update();
		this.#tiles.update();
	}

	close() {
		this.#lifetime.abort();
		this.#tiles.close();
		this.#controls.close();
		this.#notice.close();
		if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
	}

	#togglePanel() {
		if (this.#panel.contains(document.activeElement)) this.#controls.buttons.people.focus();
		this.#isPanelOpen = !this.#isPanelOpen;
		this.update();
	}

	/** @param {KeyboardEvent} event */
	#handleKey({ key, target, repeat, ctrlKey, metaKey, altKey }) {
		if (document.querySelector("dialog")) return; // it has keys of its own
		if (key === "Escape" && !this.#panel.hidden) this.#togglePanel();
		const isTyping = target instanceof Element && target.matches("input:not([type=checkbox]), select, textarea");
		const name = buttonFor(key);
		if (!name || repeat || ctrlKey || metaKey || altKey || isTyping || !keysAreOn()) return;
		const button = this.#controls.buttons[name];
		if (!button.hidden) button.click();
	}
}

/** Phones would turn off the screen, and with it the camera. The lock is lost whenever the page is hidden. @param {AbortSignal} signal */
function keepAwake(signal) {
	const request = async () => {
		const lock = document.hidden ? null : await navigator.wakeLock?.request("screen").catch(() => null);
		if (signal.aborted) lock?.release();
		else signal.addEventListener("abort", () => lock?.release());
	};
	document.addEventListener("visibilitychange", request, { signal });
	request();
}
