// The group: who is here, who is in the call, whom to ring, and the link that brings others in.

import { deviceButtons } from "./controls.js";
import { BASE, avatar, fill, h, hide, iconButton, inText, reconcile, relabel, say, toast } from "./dom.js";
import { logo } from "./landing.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { connectionNotice, doing } from "./notice.js";
import { ringNotice } from "./rings.js";
import { settingsButton } from "./settings.js";

/** @import {Member, Room} from "./types" */

// How long it stays beside a name that its ring was declined, or not answered.
const OUTCOME_SECONDS = 60;

const CODE_RETRY = 10_000; // ms

/** @param {Room} room */
export function memberList(room) {
	const list = h("ul", { class: "members" });
	const everyone = iconButton("phone", "Ring everyone", { class: "secondary wide", onclick: doing(() => room.ring()) });
	const count = h("h2", { tabindex: "-1" });

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
		hide(everyone, !members.some((member) => canBeRung(room, member)), count);
		element.hidden = !group;
	}
	const bar = h("div", { class: "bar" }, count, everyone);
	const element = h("section", { class: "who", "aria-label": "Members" }, bar, list);
	return { element, update };
}

/** @param {Room} room @param {Member} member */
function canBeRung(room, member) {
	const { call, limits, userId } = room.client;
	const isFull = call.participants.size >= (limits.callSize ?? Infinity);
	const isBusy = call.participants.has(member.id) || call.outgoing.has(member.id);
	return canCall() && room.isOnline && member.canCall === true && member.id !== userId && !isFull && !isBusy;
}

/** A member in the list. */
class Row {
	#room;
	#name = h("span", { class: "name", dir: "auto" });
	#what = h("span", { class: "what" });
	#ring;

	/** @param {Room} room @param {Member} member */
	constructor(room, member) {
		this.#room = room;
		this.#ring = iconButton("phone", `Ring ${member.username}`, {
			class: "quiet round",
			onclick: doing(() => room.ring(member.id)),
		});
		const text = h("span", { class: "text" }, this.#name, this.#what);
		this.element = h("li", { tabindex: "-1" }, avatar(member.username), text, this.#ring);
	}

	/** @param {Member} member */
	update(member) {
		const room = this.#room;
		const isMe = member.id === room.group?.me.id;
		say(this.#name, isMe ? `${inText(member.username)} (you)` : member.username);
		const [state, words] = describe(room, member);
		say(this.#what, words);
		this.element.dataset.state = state;
		hide(this.#ring, !canBeRung(room, member), this.element);
	}
}

/** How a member is, in a word for the style and some for the reader. @param {Room} room @param {Member} member */
function describe(room, member) {
	const { call } = room.client;
	if (call.outgoing.has(member.id)) return ["ringing", "ringing…"];
	if (member.status === "away") return ["away", "away, may come back"];
	if (room.takesPart(member.id)) return ["call", "in the call"];
	const last = call.recent.findLast((ring) => ring.from === room.client.userId && ring.to === member.id);
	const isNew = last && room.client.serverNow() - last.endedAt < OUTCOME_SECONDS * 1000;
	if (isNew && last.outcome === "declined") return ["no", "declined"];
	if (isNew && last.outcome === "missed") return ["no", "did not answer"];
	if (!member.canCall && member.id !== room.client.userId) return ["old", "here with another program"];
	return ["here", "here"];
}

// One for all screens: it goes from one to the next without being asked for again.
const code = h("img", {
	class: "qr",
	width: 168,
	height: 168,
	alt: "The group's link as a QR code, for a phone's camera",
	onerror: () => setTimeout(drawCodeAgain, CODE_RETRY),
});

function drawCodeAgain() {
	const { src, isConnected } = code;
	code.removeAttribute("src");
	if (isConnected) code.src = src;
}

/** The link: to copy, to share, and to point a phone at. @param {Room} room */
export function invitation(room) {
	const input = h("input", {
		id: "invitation",
		readOnly: true,
		"aria-label": "The group's link",
		onfocus: () => input.select(),
	});
	const copy = iconButton("copy", "Copy the link", { class: "primary wide", onclick: doing(copyLink) });
	const share = iconButton("share", "Share", { class: "secondary wide", onclick: doing(shareLink) });
	share.hidden = !navigator.share;
	async function copyLink() {
		try {
			await navigator.clipboard.writeText(room.link);
		} catch {
			input.select(); // over http, only the old way is open
			if (!document.execCommand("copy"))
				throw new Error("The browser does not copy. The link is selected: copy it by hand.");
		}
		toast("The link is copied.");
	}

	async function shareLink() {
		try {
			await navigator.share({
				title: room.place?.name,
				text: `Join “${inText(room.place?.name ?? "")}”`,
				url: room.link,
			});
		} catch (error) {
			if (!(error instanceof Error) || error.name !== "AbortError") throw error; // else it was thought better of
		}
	}

	function update() {
		input.value = room.link;
		const source = room.group ? `${BASE}api/group/${room.group.id}/qr.svg` : "";
		if (source && code.getAttribute("src") !== source) code.src = source;
		element.hidden = !source;
		// Who is alone has nothing better to do.
		copy.className = room.group?.members.size === 0 ? "primary wide" : "secondary wide";
	}
	const element = h(
		"section",
		{ class: "invitation", "aria-label": "Invitation" },
		h("h2", {}, "Bring others in"),
		h("p", {}, "Whoever has this link may come in."),
		input,
		h("div", { class: "choices" }, copy, share),
		code,
	);
	return { element, update };
}

/** @param {Room} room @param {{leave: () => void}} actions */
export function groupView(room, { leave }) {
	const title = h("h1", { tabindex: "-1", dir: "auto" });
	const members = memberList(room);
	const invite = invitation(room);
	const notice = connectionNotice(room);
	const rings = ringNotice();
	const devices = deviceButtons(room.devices);
	const out = iconButton("leave", "Leave the group", { class: "quiet wide", onclick: leave });
	const call = callCard(room, [devices.mic, devices.camera, settingsButton(room.devices)]);

	function update() {
		say(title, room.place?.name ?? "");
		for (const part of [members, invite, notice, devices, call]) part.update();
	}
	update();
	return {
		element: h(
			"main",
			{ class: "group" },
			h("header", { class: "bar" }, logo("span"), out),
			notice.element,
			rings.element,
			title,
			h("div", { class: "two" }, h("div", { class: "column" }, call.element, members.element), invite.element),
		),
		focus: title,
		update,
		close() {
			notice.close();
			rings.close();
		},
	};
}

/** @param {Room} room @param {HTMLElement[]} buttons */
function callCard(room, buttons) {
	const who = h("div", { class: "faces" });
	const words = h("p", {});
	const join = iconButton("phone", "", { class: "primary", onclick: doing(() => room.joinCall()) });
	const missed = h("p", { class: "missed", role: "status" });

	function update() {
		const { client } = room;
		const ids = [...client.call.participants.keys()].filter((id) => id !== client.userId);
		const names = ids.map((id) => room.nameOf(id));
		const isFull = ids.length >= (client.limits.callSize ?? Infinity);
		say(words, canCall() ? tellCall(names.map(inText), isFull) : NO_WEBRTC);
		if (who.dataset.ids !== ids.join()) {
			who.dataset.ids = ids.join();
			fill(who, ...names.map(avatar));
		}
		relabel(join, "phone", ids.length ? "Join the call" : "Start a call", {
			disabled: isFull || !room.isOnline || !canCall(),
		});
		say(missed, tellMissed(room));
	}
	const element = h(
		"section",
		{ class: "card callcard", "aria-label": "Call" },
		who,
		words,
		missed,
		h("div", { class: "choices" }, join, h("span", { class: "controls" }, ...buttons)),
	);
	return { element, update };
}

/** The last call that was missed, unless there was one since. @param {Room} room */
function tellMissed(room) {
	const { client, calledAt } = room;
	const last = client.call.recent.findLast(
		({ to, outcome }) => to === client.userId && /missed|cancelled/.test(outcome),
	);
	if (!last || last.endedAt < calledAt) return "";
	const when = new Date(last.endedAt).toLocaleTimeString([], { timeStyle: "short" });
	return `Missed call from ${inText(room.nameOf(last.from))} at ${when}`;
}

/** @param {string[]} names @param {boolean} isFull */
function tellCall(names, isFull) {
	if (!names.length) return "Nobody is in a call. Start one, or ring somebody.";
	const shown = names.length > 3 ? [...names.slice(0, 2), `${names.length - 2} more`] : names;
	const list = shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown[0];
	return `${list} ${names.length > 1 ? "are" : "is"} in a call.${isFull ? " It is full; you can watch here who is in it." : ""}`;
}
