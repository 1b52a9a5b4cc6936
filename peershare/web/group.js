// The group: who is here, who is in the call, whom to ring, and the link that brings others in.

import { avatar, draw, fill, h, icon, iconButton, reconcile, say, toast } from "./dom.js";
import { logo } from "./landing.js";
import { deviceButtons } from "./lobby.js";
import { duration, sentence } from "./room.js";
import { showSettings } from "./settings.js";

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./peershare.js").Member} Member
 */

// How long it stays beside a name that its ring was declined, or not answered.
const OUTCOME_SECONDS = 60;

/**
 * Do it, and tell if it failed.
 *
 * @param {() => Promise<unknown>} deed
 */
export const attempt = (deed) => deed().catch((error) => toast(sentence(error), "bad"));

/** @param {Room} room */
export function memberList(room) {
	const list = h("ul", { class: "members" });
	const everyone = iconButton("phone", "Ring everyone", {
		class: "secondary wide",
		onclick: () => attempt(() => room.ring()),
	});
	const count = h("h2", {});

	function update() {
		const { group } = room;
		const members = group ? [group.me, ...group.members.values()] : [];
		say(count, members.length === 1 ? "Only you are here" : `${members.length} are here`);
		reconcile(
			list,
			members,
			(member) => member.id,
			(member) => new Row(room, member),
		);
		everyone.hidden = !group || ![...group.members.values()].some((member) => canBeRung(room, member));
	}
	return {
		element: h(
			"section",
			{ "class": "who", "aria-label": "Members" },
			h("div", { class: "bar" }, count, everyone),
			list,
		),
		update,
	};
}

/** @param {Room} room @param {Member} member */
const canBeRung = (room, member) =>
	member.canCall === true && !room.client.call.participants.has(member.id) && !room.client.call.outgoing.has(member.id);

/** A member in the list. */
class Row {
	#room;
	#name = h("span", { class: "name" });
	#what = h("span", { class: "what" });
	#ring;

	/** @param {Room} room @param {Member} member */
	constructor(room, member) {
		this.#room = room;
		this.#ring = iconButton("phone", `Ring ${member.username}`, {
			class: "quiet round",
			onclick: () => attempt(() => room.ring(member.id)),
		});
		this.element = h(
			"li",
			{},
			avatar(member.username),
			h("span", { class: "text" }, this.#name, this.#what),
			this.#ring,
		);
	}

	/** @param {Member} member */
	update(member) {
		const room = this.#room;
		const isMe = member.id === room.group?.me.id;
		say(this.#name, isMe ? `${member.username} (you)` : member.username);
		const [state, words] = describe(room, member);
		say(this.#what, words);
		this.element.dataset.state = state;
		this.#ring.hidden = isMe || !canBeRung(room, member);
	}
}

/**
 * How a member is, in a word for the style and some for the reader.
 *
 * @param {Room} room
 * @param {Member} member
 */
function describe(room, member) {
	const { call } = room.client;
	if (member.status === "away") return ["away", "away, may come back"];
	if (call.participants.has(member.id)) return ["call", "in the call"];
	if (call.outgoing.has(member.id)) return ["ringing", "ringing…"];
	const last = call.recent.findLast((ring) => ring.from === room.client.userId && ring.to === member.id);
	const isNew = last && room.client.serverNow() - last.endedAt < OUTCOME_SECONDS * 1000;
	if (isNew && last.outcome === "declined") return ["no", "declined"];
	if (isNew && last.outcome === "missed") return ["no", "did not answer"];
	if (!member.canCall && member.id !== room.client.userId) return ["old", "here with another program"];
	return ["here", "here"];
}

/**
 * The link: to copy, to share, and to point a phone at.
 *
 * @param {Room} room
 */
export function invitation(room) {
	const input = h("input", {
		"id": "invitation",
		"readOnly": true,
		"aria-label": "The group's link",
		"onfocus": () => input.select(),
	});
	const copy = iconButton("copy", "Copy the link", { class: "primary wide", onclick: () => attempt(copyLink) });
	const share = iconButton("share", "Share", { class: "secondary wide", onclick: () => attempt(shareLink) });
	share.hidden = typeof navigator.share !== "function";
	const code = h("img", {
		class: "qr",
		width: 168,
		height: 168,
		alt: "The group's link as a QR code, for a phone's camera",
	});

	async function copyLink() {
		try {
			await navigator.clipboard.writeText(room.link);
		} catch {
			input.select(); // over http, only the old way is open
			document.execCommand("copy");
		}
		toast("The link is copied.");
	}

	async function shareLink() {
		try {
			await navigator.share({ title: room.place?.name, text: `Join “${room.place?.name}”`, url: room.link });
		} catch (error) {
			if (!(error instanceof Error) || error.name !== "AbortError") throw error; // else it was thought better of
		}
	}

	function update() {
		input.value = room.link;
		const source = room.group ? `/api/group/${room.group.id}/qr.svg` : "";
		if (source && code.getAttribute("src") !== source) code.src = source;
		code.hidden = !source;
		// Who is alone has nothing better to do.
		copy.className = room.group?.members.size === 0 ? "primary wide" : "secondary wide";
	}
	const element = h(
		"section",
		{ "class": "invitation", "aria-label": "Invitation" },
		h("h2", {}, "Bring others in"),
		h("p", {}, "Whoever has this link may come in."),
		input,
		h("div", { class: "choices" }, copy, share),
		code,
	);
	return { element, update };
}

/**
 * How the connection to the server is, where there is something to say, and what can be done.
 *
 * @param {Room} room
 */
export function connectionNotice(room) {
	const text = h("p", {});
	const button = h("button", { type: "button", class: "secondary small" });
	const element = h("div", { class: "notice bad banner", role: "status" }, text, button);
	/** @type {() => void} */
	let act = () => {};
	button.addEventListener("click", () => act());
	const timer = setInterval(update, 500);

	function update() {
		const told = tellConnection(room);
		element.hidden = told === null;
		if (!told) return;
		say(text, told.text);
		say(button, told.label);
		button.hidden = told.label === "";
		act = told.act;
	}
	return { element, update, close: () => clearInterval(timer) };
}

/** @param {Room} room @returns {{text: string, label: string, act: () => void} | null} */
function tellConnection(room) {
	const { client, lost, moved } = room;
	if (moved && !room.group) {
		return {
			text: `${moved.by} has opened “${moved.name}” anew.`,
			label: "Go there",
			act: () => attempt(() => room.follow()),
		};
	}
	if (client.state === "reconnecting") {
		const wait = client.retryAt ? client.retryAt - Date.now() : 0;
		const when = wait > 1000 ? ` Next try in ${duration(wait)}.` : "";
		const more = room.mesh ? " The call goes on." : "";
		return {
			text: `Reconnecting: the server can't be reached.${more}${when}`,
			label: wait > 1000 ? "Try now" : "",
			act: () => client.retryNow(),
		};
	}
	if (lost && !room.group) {
		const text = `The server was started anew and does not know “${lost.name}” any more.`;
		return { text, label: "Open it anew, with a new link", act: () => attempt(() => room.reopen()) };
	}
	return null;
}

/**
 * @param {Room} room
 * @param {{leave: () => void}} actions
 */
export function groupView(room, { leave }) {
	const title = h("h1", { tabIndex: -1 });
	const members = memberList(room);
	const invite = invitation(room);
	const notice = connectionNotice(room);
	const devices = deviceButtons(room.devices);
	const settings = iconButton("settings", "Settings", {
		class: "round",
		onclick: () => showSettings(room.devices),
	});
	const out = iconButton("leave", "Leave the group", { class: "quiet wide", onclick: leave });
	const call = callCard(room, [devices.mic, devices.camera, settings]);

	function update() {
		say(title, room.place?.name ?? "");
		for (const part of [members, invite, notice, devices, call]) part.update();
	}
	update();
	return {
		element: h(
			"main",
			{ class: "group" },
			h("header", { class: "bar" }, logo(), out),
			notice.element,
			title,
			h("div", { class: "two" }, h("div", { class: "column" }, call.element, members.element), invite.element),
		),
		focus: title,
		update,
		close: notice.close,
	};
}

/** @param {Room} room @param {HTMLElement[]} buttons */
function callCard(room, buttons) {
	const who = h("div", { class: "faces" });
	const words = h("p", {});
	const join = h(
		"button",
		{ type: "button", class: "primary", onclick: () => attempt(() => room.joinCall()) },
		icon("camera"),
		h("span", {}),
	);
	const missed = h("p", { class: "missed", role: "status" });

	function update() {
		const { client } = room;
		const ids = [...client.call.participants.keys()].filter((id) => id !== client.userId);
		const isFull = ids.length >= (client.limits?.callSize ?? 8);
		say(
			words,
			tellCall(
				ids.map((id) => room.nameOf(id)),
				isFull,
			),
		);
		if (who.dataset.ids !== ids.join()) {
			who.dataset.ids = ids.join();
			fill(who, ...ids.map((id) => avatar(room.nameOf(id))));
		}
		draw(/** @type {Element} */ (join.firstElementChild), ids.length ? "phone" : "camera");
		say(/** @type {Element} */ (join.lastElementChild), ids.length ? "Join the call" : "Start a call");
		join.disabled = isFull || !room.group || client.state !== "online";
		const ring = client.call.recent.findLast(
			({ to, outcome }) => to === client.userId && (outcome === "missed" || outcome === "cancelled"),
		);
		say(
			missed,
			ring
				? `Missed call from ${room.nameOf(ring.from)} at ${new Date(ring.endedAt).toLocaleTimeString([], { timeStyle: "short" })}`
				: "",
		);
	}
	const element = h(
		"section",
		{ "class": "card callcard", "aria-label": "Call" },
		who,
		words,
		missed,
		h("div", { class: "choices" }, join, h("span", { class: "controls" }, ...buttons)),
	);
	return { element, update };
}

/** @param {string[]} names @param {boolean} isFull */
function tellCall(names, isFull) {
	if (!names.length) return "Nobody is in a call. Start one, or ring somebody.";
	const shown = names.length > 3 ? [...names.slice(0, 2), `${names.length - 2} more`] : names;
	const list = shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown[0];
	return `${list} ${names.length > 1 ? "are" : "is"} in a call.${isFull ? " It is full; you can watch here who is in it." : ""}`;
}

/**
 * While the session of a page that was reloaded is not back yet.
 *
 * @param {Room} room
 */
export function waiting(room) {
	const notice = connectionNotice(room);
	notice.update();
	const title = h("h1", { tabIndex: -1 }, "Coming back…");
	return {
		element: h("main", { class: "group" }, h("header", { class: "bar" }, logo()), title, notice.element),
		focus: title,
		update: notice.update,
		close: notice.close,
	};
}

const ringPlace = () => /** @type {HTMLElement} */ (document.getElementById("rings"));

/**
 * Who rings, above everything else.
 *
 * @param {Room} room
 */
export const ringCards = (room) => ({
	update: () =>
		reconcile(
			ringPlace(),
			room.client.call.incoming.values(),
			(ring) => ring.from,
			(ring) => new RingCard(room, ring.from, ring.username),
		),
});

export const closeRings = () => reconcile(ringPlace(), [], String, () => ({ element: h("p"), update() {} }));

class RingCard {
	/** @param {Room} room @param {string} from @param {string} username */
	constructor(room, from, username) {
		const accept = iconButton("phone", "Accept", {
			class: "primary wide",
			onclick: () => attempt(() => room.joinCall()),
		});
		const decline = iconButton("hang-up", "Decline", {
			class: "danger wide",
			onclick: () => attempt(() => room.client.declineRing(from)),
		});
		this.element = h(
			"div",
			{ "class": "ringcard", "role": "alertdialog", "aria-labelledby": `ring-${from}` },
			avatar(username),
			h("p", { id: `ring-${from}` }, h("strong", {}, username), ` is calling in “${room.place?.name}”`),
			h("div", { class: "choices" }, accept, decline),
		);
		// Not away from somebody who types.
		if (!document.activeElement?.matches("input, select, textarea")) queueMicrotask(() => accept.focus());
	}

	update() {}
}
