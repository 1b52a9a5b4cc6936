// Who rings us: a card above everything else, the bell, and what the system shows while the page is in the background.

import { announce, avatar, byId, h, hide, iconButton, inText, kept, reconcile, say } from "./dom.js";
import { Bell, canCall } from "./media.js";
import { doing } from "./notice.js";

/** @import {Room} from "./types" */

const SILENT = "Your browser plays no sound until you touch or click this page.";
const bell = new Bell();
const place = byId("rings");
/** Whether it is wanted that the system shows rings: true, false, or not said. */
const wish = kept("localStorage", "peershare.notifications");
/** What the system shows, by who rings. @type {Map<string, Notification>} */
const shown = new Map();

/** Chrome for Android has the interface, and fails: there, it takes a service worker. */
export const canNotify = () => "Notification" in window && isSecureContext && !/Android/.test(navigator.userAgent);

/** Whether rings are shown by the system while nobody looks at the page. */
export const notifies = () => canNotify() && Notification.permission === "granted" && wish.get() !== false;

/** Show them, or not. It is to be called by a click, since it may ask for the permission. @param {boolean} wanted */
export async function notifyOfRings(wanted) {
	wish.set(wanted);
	if (wanted && (await Notification.requestPermission()) !== "granted")
		throw new Error("The browser does not allow it. Its settings for this page can.");
}

/** @param {string} from @param {string} username @param {string} [group] */
function notify(from, username, group) {
	if (!notifies() || (!document.hidden && document.hasFocus())) return;
	const options = {
		body: `In “${group}”`,
		tag: `ring-${from}`,
		icon: new URL("favicon.svg", import.meta.url).href,
		requireInteraction: true,
	};
	const notification = new Notification(`${inText(username)} is calling`, options);
	notification.onclick = () => {
		focus(); // of the window
		notification.close();
	};
	shown.set(from, notification);
}

/** Until the page was touched, that it is silent; else the question whether the system may show rings, until it is answered. */
export function ringNotice() {
	const text = h("span", { role: "status" });
	const answer = (/** @type {boolean} */ wanted) => doing(() => notifyOfRings(wanted).finally(update));
	const yes = h("button", { type: "button", class: "secondary small", onclick: answer(true) }, "Show calls");
	const no = h("button", { type: "button", class: "quiet small", onclick: answer(false) }, "Not now");
	const choices = h("span", { class: "choices" }, yes, no);
	const element = h("div", { class: "notice banner ringnotice" }, text, choices);

	function update() {
		const asks = canNotify() && Notification.permission === "default" && wish.get() === null;
		const question = "Show incoming calls while you use other windows?";
		say(text, bell.isSilent ? SILENT : asks ? question : "");
		const heir = /** @type {HTMLElement | null} */ (document.querySelector("h1"));
		if (element.contains(document.activeElement) && !asks) heir?.focus();
		hide(choices, bell.isSilent || !asks, heir);
		element.hidden = text.textContent === "";
	}
	bell.addEventListener("change", update);
	bell.prepare();
	update();
	return { element, update, close: () => bell.removeEventListener("change", update) };
}

/** What had the focus before somebody rang. @type {HTMLElement | null} */
let before = null;

/** Whose rings these are. @type {Room | null} */
let drawn = null;
bell.addEventListener("change", () => drawn && drawRings(drawn));

/** @param {Room} room */
export function drawRings(room) {
	drawn = room;
	const { incoming, outgoing } = room.client.call;
	const hadFocus = place.contains(document.activeElement);
	reconcile(
		place,
		incoming.values(),
		({ from }) => from,
		({ from, username }) => ringCard(room, from, username),
	);
	const heir = place.querySelector("div") ?? (before?.isConnected ? before : document.querySelector("h1"));
	if (hadFocus && !place.contains(document.activeElement)) heir?.focus();
	for (const [from, notification] of shown) {
		if (incoming.has(from)) continue;
		notification.close();
		shown.delete(from);
	}
	if (incoming.size) bell.start({ loud: true });
	else if (room.isInCall && outgoing.size) bell.start({ loud: false });
	else bell.stop();
}

export function endRings() {
	drawn = null;
	bell.stop();
	for (const notification of shown.values()) notification.close();
	shown.clear();
	reconcile(place, [], String, Object); // of none, none is made
}

/** @param {Room} room @param {string} from @param {string} username */
function ringCard(room, from, username) {
	const words = `${inText(username)} is calling in “${inText(room.place?.name ?? "")}”`;
	const accept = doing(() => room.joinCall());
	const decline = doing(() => room.client.declineRing(from));
	const silence = h("p", { class: "silence" });
	const element = h(
		"div",
		{
			class: "ringcard",
			role: "alertdialog",
			tabindex: "-1",
			"aria-label": words,
			onkeydown: (/** @type {KeyboardEvent} */ { key }) => key === "Escape" && decline(),
		},
		avatar(username),
		h("p", {}, words),
		silence,
		h(
			"div",
			{ class: "choices" },
			iconButton("phone", "Accept", { class: "primary wide", onclick: accept, disabled: !canCall() }),
			iconButton("hang-up", "Decline", { class: "danger wide", onclick: decline }),
		),
	);
	announce(words);
	document.querySelector("dialog")?.close(); // nothing below a dialog can be reached
	// Not away from somebody who types; and no key that is pressed just now shall answer.
	const last = /** @type {HTMLElement} */ (document.activeElement);
	if (!place.contains(last)) before = last;
	if (!last.matches("input, select, textarea")) queueMicrotask(() => element.focus());
	const update = () => {
		say(silence, bell.isSilent ? SILENT : "");
		silence.hidden = !bell.isSilent;
	};
	notify(from, username, room.place?.name);
	return { element, update };
}
