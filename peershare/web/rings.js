// Who rings us: a card above everything else, and the bell.

import { announce, avatar, byId, h, iconButton, reconcile } from "./dom.js";
import { Bell } from "./media.js";
import { doing } from "./notice.js";

/** @import {Room} from "./types" */

const bell = new Bell();
const place = byId("rings");

/** @param {Room} room */
export function drawRings(room) {
	const { incoming, outgoing } = room.client.call;
	reconcile(
		place,
		incoming.values(),
		({ from }) => from,
		({ from, username }) => ringCard(room, from, username),
	);
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
			iconButton("phone", "Accept", { class: "primary wide", onclick: accept }),
			iconButton("hang-up", "Decline", { class: "danger wide", onclick: decline }),
		),
	);
	announce(words);
	document.querySelector("dialog")?.close(); // nothing below a dialog can be reached
	// Not away from somebody who types; and no key that is pressed just now shall answer.
	if (!document.activeElement?.matches("input, select, textarea")) queueMicrotask(() => element.focus());
	return { element, update() {} };
}
