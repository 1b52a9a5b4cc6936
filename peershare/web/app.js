// The page: which screen is shown, and the way from one to the next.

import { callView } from "./call.js";
import { BASE, announce, byId, fill, h, inText, kept, toast } from "./dom.js";
import { groupView } from "./group.js";
import { groupIdIn, landing } from "./landing.js";
import { lobby } from "./lobby.js";
import { Devices } from "./media.js";
import { REFUSED, sentence, waiting } from "./notice.js";
import { drawRings, endRings } from "./rings.js";
import { Room, keepStay, savedStay } from "./room.js";
import { elsewhere, share } from "./tabs.js";

/** @import {Door, LandingOptions, LobbyOptions, Note, SavedStay, Screen} from "./types" */

const GONE =
	"There is no such group. It ended when its last member left, or the server was restarted. Make it anew, under the same link:";
const NO_LINK = "This is no link to a group. Make one, or paste the whole link:";
const PATIENCE = 15_000; // ms

const root = byId("app");
const devices = new Devices();
const ownName = kept("localStorage", "peershare.name");
/** @type {Screen | null} */
let screen = null;
/** @type {Room | null} */
let room = null;
let isUnguarding = false; // the entry of a call that has ended is being taken back
let visit = 0; // counts where we have been: what was waited for may have come too late

/** @param {Screen} next @param {string} title */
function show(next, title) {
	screen?.close?.();
	screen = next;
	fill(root, next.element);
	document.title = title;
	scrollTo(0, 0);
	next.focus?.focus({ preventScroll: true });
}

/** What the address says. */
function route() {
	visit += 1;
	const { pathname } = location;
	const id = pathname.startsWith(`${BASE}group/`) ? groupIdIn(pathname) : null;
	const saved = id && savedStay(id);
	if (id && saved) resume(newRoom(saved), id);
	else if (id) showLobby(id);
	else showLanding(pathname === BASE ? {} : { message: NO_LINK });
}

/** @param {Partial<LandingOptions>} [options] */
function showLanding(options = {}) {
	devices.close();
	history.replaceState(null, "", BASE);
	const start = landing({
		name: ownName.get() ?? "",
		create(group, name) {
			ownName.set(name);
			showNewLobby(group);
		},
		join(id, name) {
			if (name) ownName.set(name);
			history.pushState(null, "", `${BASE}group/${id}`);
			route();
		},
		...options,
	});
	show(start, "PeerShare");
	if (options.message) announce(options.message);
}

/** Before a group is made, under the ID that it had once, if it had. @param {string} group @param {string} [id] */
function showNewLobby(group, id) {
	visit += 1;
	const path = id ? `${BASE}group/${id}` : BASE;
	if (path !== location.pathname || !id) history.pushState(null, "", path);
	const about = id ? "The group has ended. You are about to open it again." : "You are about to make this group.";
	const what = { title: group, about, isNew: true, hasCall: false };
	enterThrough(what, (stay, name) => stay.create(group, name, id));
}

/** Before a group is joined. @param {string} id @param {string} [group] its name, if it is known */
async function showLobby(id, group) {
	const here = visit;
	show(waiting("Looking for the group…"), "PeerShare");
	const answer = await fetch(`${BASE}api/group/${id}`).catch(() => null);
	const info = answer?.ok ? await answer.json() : null;
	if (here !== visit) return;
	if (answer?.status === 404 && group) return showNewLobby(group, id); // we were in it
	if (answer?.status === 404) {
		const create = (/** @type {string} */ group, /** @type {string} */ name) => {
			ownName.set(name);
			showNewLobby(group, id);
		};
		return showLanding({ message: GONE, create });
	}
	const isFull = info?.inCall > 0 && (await callIsFull(info.inCall));
	if (here !== visit) return;
	const title = info?.name ?? "A group";
	const about = info
		? presence(info.memberCount, info.inCall, isFull)
		: "The server can't say who is here. Try all the same.";
	const takeOver = (/** @type {SavedStay} */ saved) => {
		keepStay(saved);
		route();
	};
	const what = { title, about, isNew: false, hasCall: info?.inCall > 0 && !isFull, isFull };
	enterThrough(what, (stay, name) => stay.enter(id, name), elsewhere(id, takeOver));
}

/** @param {number} inCall */
async function callIsFull(inCall) {
	const answer = await fetch(`${BASE}api/limits`).catch(() => null);
	const { callSize = 0 } = answer?.ok ? await answer.json() : {};
	return callSize > 0 && inCall >= callSize; // 0 is no limit
}

/** @param {number} members @param {number} inCall @param {boolean} isFull */
function presence(members, inCall, isFull) {
	if (members === 0) return "Nobody is here at the moment.";
	const here = members === 1 ? "One person is here" : `${members} people are here`;
	if (!inCall) return `${here}.`;
	const full = isFull ? " It is full: you can see who is in it, and join when somebody leaves." : "";
	return `${here}, ${inCall === 1 ? "one" : inCall} in the call.${full}`;
}

/**
 * @param {Door} what @param {(stay: Room, name: string) => Promise<void>} enter
 * @param {{element: HTMLElement, close: () => void}} [tabs] that have it open
 */
function enterThrough(what, enter, tabs) {
	const here = visit;
	/** @type {LobbyOptions["join"]} */
	const join = async (name, { call }) => {
		ownName.set(name);
		const stay = newRoom();
		let why = ""; // the server's own reason, if it ends this
		stay.addEventListener("over", ({ detail }) => (why = detail.text));
		try {
			await patiently(stay, enter(stay, name));
			if (here === visit && call) await stay.joinCall();
		} catch (error) {
			if (stay.group)
				toast(sentence(error), "bad"); // in the group, but not in its call
			else {
				stay.leave();
				throw new Error(why || sentence(error));
			}
		}
		if (here !== visit) stay.leave();
		else take(stay);
	};
	const next = lobby({ devices, name: ownName.get() ?? "", join, notice: tabs?.element, ...what });
	const close = () => {
		next.close();
		tabs?.close();
	};
	show({ ...next, close }, titleOf(what.title));
}

/** @param {string} [group] */
const titleOf = (group = "") => `${inText(group)} · PeerShare`;

/** @template T @param {Room} stay @param {Promise<T>} deed @returns {Promise<T>} */
function patiently({ client }, deed) {
	const late = new Promise((_, reject) => {
		setTimeout(() => reject(new Error("The server does not answer. Try again in a moment.")), PATIENCE);
		client.addEventListener("state", () => client.isRefused && reject(new Error(REFUSED)));
	});
	return /** @type {Promise<T>} */ (Promise.race([deed, late]));
}

/** A stay, which is listened to from the beginning. @param {SavedStay} [saved] */
function newRoom(saved) {
	const stay = new Room(devices, saved);
	stay.addEventListener("note", tell);
	return stay;
}

/** @param {CustomEvent<Note>} event */
function tell({ detail: { text, kind } }) {
	if (kind === "quiet") announce(text);
	else toast(text, kind);
}

/** After a reload: once the session is back, all is as it was. @param {Room} stay @param {string} id */
function resume(stay, id) {
	const here = visit;
	show(waiting("Coming back…", stay), "PeerShare");
	const settle = () => {
		if (here !== visit) stay.leave();
		else if (stay.group) take(stay);
		else return;
		stay.removeEventListener("change", settle);
	};
	stay.addEventListener("change", settle);
	stay.addEventListener("over", () => {
		if (room === stay || here !== visit) return;
		stay.leave();
		showLobby(id, stay.place?.name);
	});
}

/** From now on, this is where we are. @param {Room} stay */
function take(stay) {
	room = stay;
	if (!stay.isInCall) devices.close(); // until there is a call
	/** @type {boolean | null} */
	let showsCall = null;

	function draw() {
		if (room !== stay) return;
		const path = stay.group && `${BASE}group/${stay.group.id}`;
		if (path && path !== location.pathname) history.replaceState(history.state, "", path); // browsers count these
		if (stay.isInCall !== showsCall) guard(stay.isInCall);
		if (showsCall === stay.isInCall) screen?.update?.();
		else show(stay.isInCall ? callView(stay, { leaveCall }) : groupView(stay, { leave: () => leave() }), "");
		showsCall = stay.isInCall;
		drawRings(stay);
		share(stay);
		const [ringer] = stay.client.call.incoming.values();
		document.title = ringer ? `${inText(ringer.username)} is calling` : titleOf(stay.place?.name);
	}

	const leaveCall = () => stay.leaveCall().catch(() => {}); // out of it already

	/** @param {string} [message] why, where it is not us who want it */
	function leave(message) {
		goOut();
		history.pushState(null, "", BASE);
		showLanding(message ? { message } : { group: stay.place?.name });
	}

	stay.addEventListener("change", draw);
	stay.addEventListener("over", ({ detail: { text, again } }) => {
		if (!again) return leave(text);
		goOut();
		toast(text, "bad");
		route();
	});
	draw();
	announce(`You are in ${inText(stay.place?.name ?? "")}.`);
}

/** Leave the group that we are in, if so. */
function goOut() {
	visit += 1;
	const stay = room;
	room = null; // and so nothing of it is drawn any more
	share(null);
	stay?.leave();
	endRings();
}

/**
 * In a call there is an entry more in the browser's history, so that its button for going back leads out of the call, and
 * not out of the page: and it asks.
 * @param {boolean} isInCall
 */
function guard(isInCall) {
	if (isUnguarding) return;
	const isGuarded = history.state?.inCall === true; // also after a reload
	if (isInCall && !isGuarded) history.pushState({ inCall: true }, "", location.href);
	if (isInCall || !isGuarded) return;
	closeDialog();
	isUnguarding = true;
	history.back();
}

const closeDialog = () => document.querySelector("dialog")?.close();

/** @param {Room} stay */
function askToLeave(stay) {
	const dialog = h(
		"dialog",
		{ class: "leave", "aria-labelledby": "leave-title" },
		h("h2", { id: "leave-title" }, "Leave the call?"),
		h(
			"form",
			{ method: "dialog", class: "choices" },
			h("button", { class: "primary", value: "stay" }, "Stay"),
			h("button", { class: "danger", value: "leave" }, "Leave the call"),
		),
	);
	dialog.addEventListener("close", () => {
		dialog.remove();
		if (room !== stay || !stay.isInCall) return;
		if (dialog.returnValue === "leave") stay.leaveCall().catch(() => {});
		else guard(true);
	});
	document.body.append(dialog);
	dialog.showModal();
}

addEventListener("popstate", () => {
	if (isUnguarding) {
		isUnguarding = false;
		return guard(room?.isInCall ?? false); // again, where the next call was faster
	}
	if (room && location.pathname.endsWith(room.place?.id ?? " ")) {
		if (room.isInCall && !history.state?.inCall) askToLeave(room);
		return;
	}
	// Away from a group by the browser's own button: that is leaving.
	closeDialog();
	goOut();
	route();
});
devices.addEventListener("note", tell);
// The browser had put it aside: its connections are gone.
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
route();
dispatchEvent(new Event("started")); // the document waits for it
