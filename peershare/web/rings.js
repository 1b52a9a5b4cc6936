// Who rings us: a card above everything else, and the bell.

import { announce, avatar, byId, h, iconButton, reconcile } from "./dom.js";
import { Bell, canCall } from "./media.js";
import { doing } from "./notice.js";

/** @import {Room} from "./types" */

const bell = new Bell();
const place = byId("rings");

/** What had the focus before somebody rang. @type {HTMLElement | null} */
let before = null;

/** @param {Room} room */
export function drawRings(room) {
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
	if (incoming.size) bell.start({ loud: true });
	else if (room.isInCall && outgoing.size) bell.start({ loud: false });
	else bell.stop();
}

export function endRings() {
	bell.stop();
	reconcile(place, [], String, Object); // of none, none is made
}

/** @param {Room} room @param {string} from @param {string} username */
function ringCard(room, from, username) {
	const words = `${username} is calling in “${room.place?.name}”`;
	const accept = doing(() => room.joinCall());
	const decline = doing(() => room.client.declineRing(from));
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
	return { element, update() {} };
}
