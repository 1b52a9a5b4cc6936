// Messages where something did not go well: with an action, or with the connection to the server.

import { h, hide, isolate, setText, toast } from "./dom.js";
import { logo } from "./landing.js";
import { RefusedError } from "./peershare.js";

/** @import {GroupSession, Notice} from "./types" */

/** Messages for refusals of the server, where its own would not help. */
const REFUSALS = /** @type {Record<string, string>} */ ({
	GROUP_NOT_FOUND: "This group has ended.",
	CALL_FULL: "The call is full. You can stay here, and join when somebody leaves.",
	PEER_NOT_FOUND: "They can't be rung: their program can't take calls.",
	USER_NOT_FOUND: "They have just left.",
	RING_NOT_FOUND: "They are not calling any more.",
});

/** The server is there, and refuses connections from this page. */
export const REFUSED = `The server refused this page's address, ${location.origin}. Whoever runs it can allow it; its log says how.`;

/** A message for the user. @param {unknown} error */
export function errorMessage(error) {
	if (error instanceof DOMException) return `The browser refused (${error.name}).`;
	if (!(error instanceof RefusedError)) return error instanceof Error ? error.message : String(error);
	const { code, message, details } = error;
	if (code === "RATE_LIMITED") return `${message}. Try again in ${duration(details.retryAfterMs ?? 0)}.`;
	return REFUSALS[code] ?? `${details.validationErrors?.[0].message ?? message}.`;
}

/** @param {number} milliseconds */
function duration(milliseconds) {
	const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
	if (seconds < 90) return seconds === 1 ? "a second" : `${seconds} seconds`;
	return `${Math.round(seconds / 60)} minutes`;
}

/**
 * A listener for a button: it runs once at a time, and shows a message if it fails.
 * @param {() => Promise<unknown>} action
 */
export function asyncHandler(action) {
	let isRunning = false;
	return async () => {
		if (isRunning) return;
		isRunning = true;
		await action().catch((error) => toast(errorMessage(error), "bad"));
		isRunning = false;
	};
}

/** The state of the connection, where it is not good, and what the user can do. @param {GroupSession} session */
export function connectionNotice(session) {
	const text = h("span", { role: "status" });
	const countdown = h("span"); // outside of the status: it would be announced each second
	const button = h("button", { type: "button", class: "secondary small", onclick: () => notice?.act?.() });
	const element = h("div", { class: "notice bad banner" }, h("p", {}, text, countdown), button);
	const rejoin = asyncHandler(() => session.rejoin());
	const timer = setInterval(update, 500); // for the countdown
	/** @type {Notice | null} */
	let notice;

	function update() {
		notice = noticeFor(session, rejoin);
		hide(button, !notice?.label);
		element.hidden = notice === null;
		setText(text, notice?.text ?? "");
		setText(countdown, notice?.countdown ?? "");
		setText(button, notice?.label ?? "");
	}
	return { element, update, close: () => clearInterval(timer) };
}

/** @param {GroupSession} session @param {() => void} rejoin @returns {Notice | null} */
function noticeFor({ client, lastGroup, reopenError, isInCall }, rejoin) {
	if (client.state === "reconnecting") {
		const delay = client.retryAt ? client.retryAt - Date.now() : 0;
		const more = isInCall ? " The call goes on." : "";
		const text = (client.isRefused ? REFUSED : "Reconnecting: the server can't be reached.") + more;
		if (delay < 1000) return { text };
		return { text, countdown: ` Next try in ${duration(delay)}.`, label: "Try now", act: () => client.retryNow() };
	}
	if (!reopenError) return null;
	const text = `The server has forgotten “${isolate(lastGroup?.name ?? "")}”, and does not open it again yet: ${reopenError} The page tries again by itself.`;
	return { text, label: "Try now", act: rejoin };
}

/** The screen while something is loading. @param {string} text @param {GroupSession} [session] whose connection is shown */
export function loadingScreen(text, session) {
	const notice = session && connectionNotice(session);
	notice?.update();
	const title = h("h1", { tabindex: "-1" }, text);
	return {
		element: h("main", { class: "group" }, h("header", { class: "bar" }, logo()), title, notice?.element),
		focus: title,
		update: notice?.update,
		close: notice?.close,
	};
}
