// Incoming rings: a card above everything else, a sound, and a notification while the page is in the background.

import { announce, avatar, byId, h, hide, iconButton, isolate, stored, reconcile, setText } from "./dom.js";
import { Ringtone, canCall } from "./media.js";
import { asyncHandler } from "./notice.js";

/** @import {GroupSession} from "./types" */

const SILENT = "Your browser plays no sound until you touch or click this page.";
const ringtone = new Ringtone();
const container = byId("rings");
/** The user's wish for notifications: true, false, or null if not asked yet. */
const preference = stored("localStorage", "peershare.notifications");
/** By the user ID of the caller. @type {Map<string, Notification>} */
const notifications = new Map();

/** Chrome for Android has the interface, but needs a service worker for it. */
export const canNotify = () => "Notification" in window && isSecureContext && !/Android/.test(navigator.userAgent);

/** True if notifications show rings while the page is in the background. */
export const notifies = () => canNotify() && Notification.permission === "granted" && preference.get() !== false;

/** Turn notifications on or off. Call it from a click, since it may ask for the permission. @param {boolean} wanted */
export async function notifyOfRings(wanted) {
	preference.set(wanted);
	if (wanted && (await Notification.requestPermission()) !== "granted")
		throw new Error("The browser does not allow it. You can allow notifications in its settings for this page.");
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
	const notification = new Notification(`${isolate(username)} is calling`, options);
	notification.onclick = () => {
		focus(); // of the window
		notification.close();
	};
	notifications.set(from, notification);
}

/** A notice that the page is silent until it is touched; after that, the question about notifications, until it is answered. */
export function ringNotice() {
	const text = h("span", { role: "status" });
	const answer = (/** @type {boolean} */ wanted) => asyncHandler(() => notifyOfRings(wanted).finally(update));
	const yes = h("button", { type: "button", class: "secondary small", onclick: answer(true) }, "Show calls");
	const no = h("button", { type: "button", class: "quiet small", onclick: answer(false) }, "Not now");
	const choices = h("span", { class: "choices" }, yes, no);
	const element = h("div", { class: "notice banner ringnotice" }, text, choices);

	function update() {
		const asks = canNotify() && Notification.permission === "default" && preference.get() === null;
		const question = "Show incoming calls while you use other windows?";
		setText(text, ringtone.isSilent ? SILENT : asks ? question : "");
		const focusTarget = /** @type {HTMLElement | null} */ (document.querySelector("h1"));
		if (element.contains(document.activeElement) && !asks) focusTarget?.focus();
		hide(choices, ringtone.isSilent || !asks, focusTarget);
		element.hidden = text.textContent === "";
	}
	ringtone.addEventListener("change", update);
	ringtone.prepare();
	update();
	return { element, update, close: () => ringtone.removeEventListener("change", update) };
}

/** The element that had the focus before a ring. @type {HTMLElement | null} */
let focusBefore = null;

/** The session whose rings are shown. @type {GroupSession | null} */
let ringingSession = null;
ringtone.addEventListener("change", () => ringingSession && drawRings(ringingSession));

/** @param {GroupSession} session */
export function drawRings(session) {
	ringingSession = session;
	const { incoming, outgoing } = session.client.call;
	const hadFocus = container.contains(document.activeElement);
	reconcile(
		container,
		incoming.values(),
		({ from }) => from,
		({ from, username }) => ringCard(session, from, username),
	);
	const focusTarget =
		container.querySelector("div") ?? (focusBefore?.isConnected ? focusBefore : document.querySelector("h1"));
	if (hadFocus && !container.contains(document.activeElement)) focusTarget?.focus();
	for (const [from, notification] of notifications) {
		if (incoming.has(from)) continue;
		notification.close();
		notifications.delete(from);
	}
	if (incoming.size) ringtone.start({ loud: true });
	else if (session.isInCall && outgoing.size) ringtone.start({ loud: false });
	else ringtone.stop();
}

export function endRings() {
	ringingSession = null;
	ringtone.stop();
	for (const notification of notifications.values()) notification.close();
	notifications.clear();
	reconcile(container, [], String, Object); // without items, no row is made
}

/** @param {GroupSession} session @param {string} from @param {string} username */
function ringCard(session, from, username) {
	const words = `${isolate(username)} is calling in “${isolate(session.lastGroup?.name ?? "")}”`;
	const accept = asyncHandler(() => session.joinCall());
	const decline = asyncHandler(() => session.client.declineRing(from));
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
	document.querySelector("dialog")?.close(); // nothing outside of a dialog can be reached
	// The focus stays where the user types; and no key that is pressed just now may answer.
	const last = /** @type {HTMLElement} */ (document.activeElement);
	if (!container.contains(last)) focusBefore = last;
	if (!last.matches("input, select, textarea")) queueMicrotask(() => element.focus());
	const update = () => {
		setText(silence, ringtone.isSilent ? SILENT : "");
		silence.hidden = !ringtone.isSilent;
	};
	notify(from, username, session.lastGroup?.name);
	return { element, update };
}
