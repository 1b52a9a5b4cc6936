// The tabs of this browser: which of them has a group open, and the way to take over from it.

import { h, setText } from "./dom.js";

/** @import {GroupSession, SavedSession, TabMessage} from "./types" */

// It reaches tabs of the same origin only.
const channel = "BroadcastChannel" in window ? new BroadcastChannel("peershare") : null;
const ownTab = crypto.getRandomValues(new Uint32Array(2)).join("-");
/** The session in this tab. @type {GroupSession | null} */
let session = null;
let published = ""; // its group and user ID

/** @param {TabMessage} message */
const post = (message) => channel?.postMessage(message);

/** @param {(message: TabMessage) => void} handle @param {AbortSignal} [signal] */
const listen = (handle, signal) => channel?.addEventListener("message", ({ data }) => handle(data), { signal });

function postHere() {
	const { group, client } = session ?? {};
	if (group && client?.userId) post({ here: group.id, tab: ownTab, userId: client.userId, name: group.me.username });
}

/** Tell the other tabs of the session in this one, now and when they ask. @param {GroupSession | null} newSession */
export function publishSession(newSession) {
	if (session && !newSession) post({ gone: ownTab });
	session = newSession;
	const state = newSession?.group ? `${newSession.group.id} ${newSession.client.userId}` : "";
	if (state !== published) postHere();
	published = state;
}

listen(({ ask, here, userId, take, by }) => {
	const id = session?.group?.id;
	if (!session || !id) return;
	if (ask === id) postHere();
	if (here === id && userId && session.addOtherTab(userId)) postHere(); // it may not know us yet
	const saved = take === ownTab && session.saved;
	if (saved) post({ given: by, saved });
});
addEventListener("pagehide", () => publishSession(null));

/**
 * A notice where this group is open in another tab as well, with a button to take over.
 * @param {string} id @param {(saved: SavedSession) => void} take
 */
export function otherTabNotice(id, take) {
	const lifetime = new AbortController();
	let tab = "";
	const text = h("p", { role: "status" });
	const button = h("button", { type: "button", class: "primary small" }, "Take over here");
	button.addEventListener("click", () => post({ take: tab, by: ownTab }));
	const element = h("div", { class: "notice banner", hidden: true }, text, button);
	listen(({ here, tab: openTab, name, gone, given, saved }) => {
		if (here === id && openTab) {
			tab = openTab;
			element.hidden = false;
			setText(
				text,
				`This group is open in another tab of this browser, as “${name}”. If you join here too, you will be in the group twice.`,
			);
		}
		if (gone === tab) element.hidden = true;
		if (given === ownTab && saved) take(saved);
	}, lifetime.signal);
	post({ ask: id });
	return { element, close: () => lifetime.abort() };
}
