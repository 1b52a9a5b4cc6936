// The tabs of this browser: which of them has a group open, and how another takes over from it.

import { h, say } from "./dom.js";

/** @import {Room, SavedStay, TabMessage} from "./types" */

// Only tabs of the same origin hear it.
const channel = "BroadcastChannel" in window ? new BroadcastChannel("peershare") : null;
const me = crypto.getRandomValues(new Uint32Array(2)).join("-");
/** What is open here. @type {Room | null} */
let stay = null;
let said = ""; // of it

/** @param {TabMessage} message */
const tell = (message) => channel?.postMessage(message);

/** @param {(message: TabMessage) => void} hear @param {AbortSignal} [signal] */
const listen = (hear, signal) => channel?.addEventListener("message", ({ data }) => hear(data), { signal });

function tellHere() {
	const { group, client } = stay ?? {};
	if (group && client?.userId) tell({ here: group.id, tab: me, userId: client.userId, name: group.me.username });
}

/** Let the other tabs know what is open in this one, from now on. @param {Room | null} room */
export function share(room) {
	if (stay && !room) tell({ gone: me });
	stay = room;
	const news = room?.group ? `${room.group.id} ${room.client.userId}` : "";
	if (news !== said) tellHere();
	said = news;
}

listen(({ ask, here, userId, take, by }) => {
	const id = stay?.group?.id;
	if (!stay || !id) return;
	if (ask === id) tellHere();
	if (here === id && userId && stay.meetTwin(userId)) tellHere(); // which may have come later
	const saved = take === me && stay.saved;
	if (saved) tell({ given: by, saved });
});
addEventListener("pagehide", () => share(null));

/**
 * What is said where this group is open in another tab as well, with an offer to take over.
 * @param {string} id @param {(saved: SavedStay) => void} take
 */
export function elsewhere(id, take) {
	const living = new AbortController();
	let tab = "";
	const text = h("p", { role: "status" });
	const button = h("button", { type: "button", class: "primary small" }, "Take over here");
	button.addEventListener("click", () => tell({ take: tab, by: me }));
	const element = h("div", { class: "notice banner", hidden: true }, text, button);
	listen(({ here, tab: where, name, gone, given, saved }) => {
		if (here === id && where) {
			tab = where;
			element.hidden = false;
			say(
				text,
				`This group is open in another tab of this browser, as “${name}”. If you join here too, you will be in the group twice.`,
			);
		}
		if (gone === tab) element.hidden = true;
		if (given === me && saved) take(saved);
	}, living.signal);
	tell({ ask: id });
	return { element, close: () => living.abort() };
}
