// The page: which screen is shown, and the way from one to the next.

import { callView } from "./call.js";
import { announce, fill, toast } from "./dom.js";
import { closeRings, groupView, ringCards, waiting } from "./group.js";
import { groupIdIn, landing } from "./landing.js";
import { lobby } from "./lobby.js";
import { Bell, Devices } from "./media.js";
import { Room, savedStay, sentence } from "./room.js";

/**
 * @typedef {object} Screen
 * @property {HTMLElement} element
 * @property {HTMLElement} [focus] what has the focus first
 * @property {() => void} [update]
 * @property {() => void} [close]
 */

const STORED_NAME = "peershare.name";
const GONE =
	"There is no such group. It ended when its last member left, or the server was started anew. Make a new one:";

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
const devices = new Devices();
const bell = new Bell();
/** @type {Screen | null} */
let screen = null;
/** @type {Room | null} */
let room = null;

const ownName = () => localStorage.getItem(STORED_NAME) ?? "";

/** @param {Screen} next @param {string} title */
function show(next, title) {
	screen?.close?.();
	screen = next;
	fill(root, next.element);
	if (title) document.title = title;
	next.focus?.focus({ preventScroll: true });
}

/** What the address says. */
function route() {
	const id = location.pathname.startsWith("/group/") ? groupIdIn(location.pathname) : null;
	if (!id) {
		showLanding();
		return;
	}
	const saved = savedStay(id);
	if (saved) resume(new Room(devices, saved), id);
	else showLobby(id);
}

/** @param {{message?: string, group?: string}} [options] */
function showLanding(options = {}) {
	devices.close();
	const create = (/** @type {string} */ group, /** @type {string} */ name) => {
		localStorage.setItem(STORED_NAME, name);
		showNewLobby(group);
	};
	const join = (/** @type {string} */ id, /** @type {string} */ name) => {
		if (name) localStorage.setItem(STORED_NAME, name);
		history.pushState(null, "", `/group/${id}`);
		route();
	};
	show(landing({ name: ownName(), create, join, ...options }), "PeerShare");
}

/** Before a group is made. @param {string} group */
function showNewLobby(group) {
	history.pushState(null, "", "/");
	enterThrough(
		{ title: group, about: "You are about to make this group.", isNew: true, hasCall: false },
		(stay, name) => stay.create(group, name),
	);
}

/** Before a group is joined. @param {string} id */
async function showLobby(id) {
	const answer = await fetch(`/api/group/${id}`).catch(() => null);
	if (answer?.status === 404) {
		history.replaceState(null, "", "/");
		showLanding({ message: GONE });
		return;
	}
	const info = answer?.ok ? await answer.json() : { name: "Group" };
	const about = answer?.ok
		? presence(info.memberCount, info.inCall ?? 0)
		: "The server can't be reached just now. Try all the same.";
	enterThrough({ title: info.name, about, isNew: false, hasCall: info.inCall > 0 }, (stay, name) =>
		stay.enter(id, name),
	);
}

/** @param {number} members @param {number} inCall */
function presence(members, inCall) {
	const here = members === 0 ? "Nobody is here at the moment" : members === 1 ? "One is here" : `${members} are here`;
	return inCall ? `${here}, ${inCall} in the call.` : `${here}.`;
}

/**
 * @param {{title: string, about: string, isNew: boolean, hasCall: boolean}} what
 * @param {(stay: Room, name: string) => Promise<void>} enter
 */
function enterThrough(what, enter) {
	/** @type {Room | null} */
	let stay = null;
	const join = async (/** @type {string} */ name, /** @type {{call: boolean}} */ { call }) => {
		localStorage.setItem(STORED_NAME, name);
		stay ??= new Room(devices);
		try {
			await patiently(enter(stay, name));
			if (call) await stay.joinCall();
			else devices.close(); // until there is a call
		} catch (error) {
			if (!stay.group) {
				stay.leave();
				stay = null;
				throw new Error(sentence(error));
			}
			toast(sentence(error), "bad"); // in the group, but not in its call
		}
		take(/** @type {Room} */ (stay));
	};
	show(lobby({ devices, name: ownName(), join, ...what }), `${what.title} · PeerShare`);
}

const PATIENCE = 15_000; // ms

/** @template T @param {Promise<T>} deed @returns {Promise<T>} */
function patiently(deed) {
	const late = new Promise((_, reject) =>
		setTimeout(() => reject(new Error("The server does not answer. Try again in a moment.")), PATIENCE),
	);
	return /** @type {Promise<T>} */ (Promise.race([deed, late]));
}

/** After a reload: once the session is back, all is as it was. @param {Room} stay @param {string} id */
function resume(stay, id) {
	show(waiting(stay), "PeerShare");
	const settle = () => {
		screen?.update?.();
		if (stay.group) take(stay);
		else if (stay.lost) {
			stay.leave();
			showLobby(id);
		} else return;
		stay.removeEventListener("change", settle);
	};
	stay.addEventListener("change", settle);
	stay.addEventListener("over", () => room === stay || showLobby(id), { once: true });
}

/** From now on, this is where we are. @param {Room} stay */
function take(stay) {
	room = stay;
	const rings = ringCards(stay);
	/** @type {boolean | null} */
	let showsCall = null;

	function draw() {
		if (room !== stay) return;
		if (stay.group) history.replaceState(null, "", `/group/${stay.group.id}`);
		const isInCall = stay.mesh !== null;
		if (showsCall === isInCall) screen?.update?.();
		else show(isInCall ? callView(stay, { leaveCall }) : groupView(stay, { leave: () => leave() }), "");
		showsCall = isInCall;
		rings.update();
		ringBell();
	}

	const leaveCall = () => stay.leaveCall().catch((error) => toast(sentence(error), "bad"));

	/** @param {string} [message] why, where it is not us who want it */
	function leave(message) {
		goOut();
		history.pushState(null, "", "/");
		showLanding(message ? { message } : { group: stay.place?.name });
	}

	function ringBell() {
		const { incoming, outgoing } = stay.client.call;
		const [ringer] = incoming.values();
		document.title = ringer ? `${ringer.username} is calling` : `${stay.place?.name} · PeerShare`;
		if (ringer) bell.start({ loud: true });
		else if (showsCall && outgoing.size) bell.start({ loud: false });
		else bell.stop();
	}

	stay.addEventListener("change", draw);
	stay.addEventListener("note", (event) => {
		const { text, kind } = /** @type {CustomEvent} */ (event).detail;
		if (kind === "quiet") announce(text);
		else toast(text, kind);
	});
	stay.addEventListener("over", (event) => leave(/** @type {CustomEvent} */ (event).detail.text), { once: true });
	draw();
	announce(`You are in ${stay.place?.name}.`);
}

/** Leave the group that we are in, if so. */
function goOut() {
	const stay = room;
	room = null; // and so nothing of it is drawn any more
	stay?.leave();
	bell.stop();
	closeRings();
}

addEventListener("popstate", () => {
	// Away from a group by the browser's own button: that is leaving.
	if (room && location.pathname.endsWith(room.place?.id ?? " ")) return;
	goOut();
	route();
});
route();
