// What is said where something did not go well: with a deed, with the connection to the server.

import { h, hide, inText, say, toast } from "./dom.js";
import { logo } from "./landing.js";
import { RefusedError } from "./peershare.js";
import { ErrorCode } from "./protocol.js";

/** @import {Notice, Room} from "./types" */

/** Sentences for what the server may refuse. */
const REFUSALS = /** @type {Record<string, string>} */ ({
	[ErrorCode.GROUP_NOT_FOUND]: "This group has ended.",
	[ErrorCode.CALL_FULL]: "The call is full. You can stay here, and join when somebody leaves.",
	[ErrorCode.PEER_NOT_FOUND]: "They can't be rung: their program can't take calls.",
	[ErrorCode.USER_NOT_FOUND]: "They have just left.",
	[ErrorCode.RING_NOT_FOUND]: "They are not calling any more.",
});

/** The server is there, and takes no connection from here. */
export const REFUSED = `The server refused this page's address, ${location.origin}. Whoever runs it can allow it; its log says how.`;

/** What to tell about an error. @param {unknown} error */
export function sentence(error) {
	if (error instanceof DOMException) return `The browser refused (${error.name}).`;
	if (!(error instanceof RefusedError)) return error instanceof Error ? error.message : String(error);
	const { code, message, details } = error;
	if (code === ErrorCode.RATE_LIMITED) return `${message}. Try again in ${duration(details.retryAfterMs ?? 0)}.`;
	return REFUSALS[code] ?? `${details.validationErrors?.[0].message ?? message}.`;
}

/** @param {number} milliseconds */
function duration(milliseconds) {
	const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
	if (seconds < 90) return seconds === 1 ? "a second" : `${seconds} seconds`;
	return `${Math.round(seconds / 60)} minutes`;
}

/**
 * Does it when it is asked to, but not twice at a time, and tells if it failed.
 * @param {() => Promise<unknown>} deed
 */
export function doing(deed) {
	let isDoing = false;
	return async () => {
		if (isDoing) return;
		isDoing = true;
		await deed().catch((error) => toast(sentence(error), "bad"));
		isDoing = false;
	};
}

/** How the connection is, where there is something to say, and what one can do about it. @param {Room} room */
export function connectionNotice(room) {
	// The seconds are not announced, each time anew.
	const text = h("span", { role: "status" });
	const when = h("span");
	const button = h("button", { type: "button", class: "secondary small", onclick: () => told?.act?.() });
	const element = h("div", { class: "notice bad banner" }, h("p", {}, text, when), button);
	const comeBack = doing(() => room.comeBack());
	const timer = setInterval(update, 500); // of the seconds until the next try
	/** @type {Notice | null} */
	let told;

	function update() {
		told = tell(room, comeBack);
		hide(button, !told?.label);
		element.hidden = told === null;
		say(text, told?.text ?? "");
		say(when, told?.when ?? "");
		say(button, told?.label ?? "");
	}
	return { element, update, close: () => clearInterval(timer) };
}

/** @param {Room} room @param {() => void} comeBack @returns {Notice | null} */
function tell({ client, place, lost, isInCall }, comeBack) {
	if (client.state === "reconnecting") {
		const wait = client.retryAt ? client.retryAt - Date.now() : 0;
		const more = isInCall ? " The call goes on." : "";
		const text = (client.isRefused ? REFUSED : "Reconnecting: the server can't be reached.") + more;
		if (wait < 1000) return { text };
		return { text, when: ` Next try in ${duration(wait)}.`, label: "Try now", act: () => client.retryNow() };
	}
	if (!lost) return null;
	const text = `The server has forgotten “${inText(place?.name ?? "")}”, and does not open it again yet: ${lost} The page tries again by itself.`;
	return { text, label: "Try now", act: comeBack };
}

/** The screen while something is awaited. @param {string} words @param {Room} [room] whose connection it is about */
export function waiting(words, room) {
	const notice = room && connectionNotice(room);
	notice?.update();
	const title = h("h1", { tabindex: "-1" }, words);
	return {
		element: h("main", { class: "group" }, h("header", { class: "bar" }, logo()), title, notice?.element),
		focus: title,
		update: notice?.update,
		close: notice?.close,
	};
}
