// The screen of a group: its members, its call, and the link that invites others.

import { deviceButtons } from "./controls.js";
import { BASE, avatar, fill, h, hide, icon, iconButton, isolate, reconcile, relabel, setText, toast } from "./dom.js";
import { logo } from "./landing.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { connectionNotice, asyncHandler } from "./notice.js";
import { ringNotice } from "./rings.js";
import { settingsButton } from "./settings.js";

/** @import {Member, GroupSession} from "./types" */

const OUTCOME_SECONDS = 60; // for which a declined or missed ring is shown beside a name
const QR_CODE_RETRY = 10_000; // ms
const VERIFIED = "signed in under this name";

/** What is loaded by those who may moderate, when they do. A browser asks again for a module that did not arrive. */
const loadPeople = () => import("./people.js");

/** @param {GroupSession} session */
export function memberList(session) {
	const list = h("ul", { class: "members" });
	const everyone = iconButton("phone", "Ring everyone", {
		class: "secondary wide",
		onclick: asyncHandler(() => session.ring()),
	});
	const count = h("h2", { tabindex: "-1" });

	function update() {
		const { group } = session;
		const members = group ? [group.me, ...group.members.values()] : [];
		setText(count, members.length === 1 ? "Only you are here" : `${members.length} are here`);
		reconcile(
			list,
			members,
			(member) => member.id,
			(member) => new MemberRow(session, member),
		);
		hide(everyone, !members.some((member) => canBeRung(session, member)), count);
		element.hidden = !group;
	}
	const bar = h("div", { class: "bar" }, count, everyone);
	const element = h("section", { class: "member-list", "aria-label": "Members" }, bar, list);
	return { element, update };
}

/** @param {GroupSession} session @param {Member} member */
function canBeRung(session, member) {
	const { call, limits, userId } = session.client;
	const isFull = call.participants.size >= (limits.callSize ?? Infinity);
	const isBusy = call.participants.has(member.id) || call.outgoing.has(member.id);
	return canCall() && session.isOnline && member.canCall === true && member.id !== userId && !isFull && !isBusy;
}

/** A member in the list. */
class MemberRow {
	#session;
	#name = h("span", { dir: "auto" });
	#verified = h(
		"span",
		{ title: VERIFIED },
		icon("signed-in"),
		h("span", { class: "visually-hidden" }, `, ${VERIFIED}`),
	);
	#state = h("span", { class: "state" });
	#ring;
	#manage;

	/** @param {GroupSession} session @param {Member} member */
	constructor(session, member) {
		this.#session = session;
		const isMe = member.id === session.client.userId;
		this.#manage = iconButton("settings", isMe ? "Manage the group" : `Manage ${member.username}`, {
			class: "quiet round",
			onclick: asyncHandler(async () => (await loadPeople()).manage(session, member)),
		});
		this.#ring = iconButton("phone", `Ring ${member.username}`, {
			class: "quiet round",
			onclick: asyncHandler(() => session.ring(member.id)),
		});
		const name = h("span", { class: "name" }, this.#name, this.#verified);
		const text = h("span", { class: "text" }, name, this.#state);
		this.element = h("li", { tabindex: "-1" }, avatar(member.username), text, this.#manage, this.#ring);
	}

	/** @param {Member} member */
	update(member) {
		const session = this.#session;
		const isMe = member.id === session.group?.me.id;
		setText(this.#name, isMe ? `${isolate(member.username)} (you)` : member.username);
		this.#verified.hidden = !member.verified;
		const [state, text] = memberState(session, member);
		setText(this.#state, member.role ? `${member.role}, ${text}` : text);
		hide(this.#manage, !session.mayManage(member), this.element);
		this.element.dataset.state = state;
		hide(this.#ring, !canBeRung(session, member), this.element);
	}
}

/** A member's state, as a name for the style sheet and as text. @param {GroupSession} session @param {Member} member */
function memberState(session, member) {
	const { call } = session.client;
	if (call.outgoing.has(member.id)) return ["ringing", "ringing…"];
	if (member.status === "away") return ["away", "away, may come back"];
	if (session.isParticipant(member.id)) return ["call", "in the call"];
	const last = call.recent.findLast((ring) => ring.from === session.client.userId && ring.to === member.id);
	const isNew = last && session.client.serverNow() - last.endedAt < OUTCOME_SECONDS * 1000;
	if (isNew && last.outcome === "declined") return ["no", "declined"];
	if (isNew && last.outcome === "missed") return ["no", "did not answer"];
	if (!member.canCall && member.id !== session.client.userId) return ["old", "here with another program"];
	return ["here", "here"];
}

// One element for all screens: it moves between them without another request.
const qrCode = h("img", {
	class: "qr",
	width: 168,
	height: 168,
	alt: "The group's link as a QR code, for a phone's camera",
	onerror: () => setTimeout(reloadQrCode, QR_CODE_RETRY),
});

function reloadQrCode() {
	const { src, isConnected } = qrCode;
	qrCode.removeAttribute("src");
	if (isConnected) qrCode.src = src;
}

/** The group's link: to copy, to share, and to scan. */
export class Invitation {
	#session;
	#input;
	#copy;
	#who = h("p", {});

	/** @param {GroupSession} session */
	constructor(session) {
		this.#session = session;
		this.#input = h("input", {
			id: "invitation",
			readOnly: true,
			"aria-label": "The group's link",
			onfocus: () => this.#input.select(),
		});
		this.#copy = iconButton("copy", "Copy the link", {
			class: "primary wide",
			onclick: asyncHandler(() => this.#copyLink()),
		});
		const share = iconButton("share", "Share", {
			class: "secondary wide",
			onclick: asyncHandler(() => this.#shareLink()),
		});
		share.hidden = !navigator.share;
		this.element = h(
			"section",
			{ class: "invitation", "aria-label": "Invitation" },
			h("h2", {}, "Bring others in"),
			this.#who,
			this.#input,
			h("div", { class: "choices" }, this.#copy, share),
			qrCode,
		);
	}

	update() {
		const { group, link } = this.#session;
		this.#input.value = link;
		const isLocked = group?.settings?.locked;
		setText(this.#who, isLocked ? "It is locked: nobody new may come in." : "Whoever has this link may come in.");
		const source = group ? `${BASE}api/group/${group.id}/qr.svg` : "";
		if (source && qrCode.getAttribute("src") !== source) qrCode.src = source;
		this.element.hidden = !source;
		// The main action of the screen, while nobody else is here.
		this.#copy.className = group?.members.size === 0 ? "primary wide" : "secondary wide";
	}

	async #copyLink() {
		try {
			await navigator.clipboard.writeText(this.#session.link);
		} catch {
			this.#input.select(); // over http there is only the old way
			if (!document.execCommand("copy"))
				throw new Error("The browser does not copy. The link is selected: copy it by hand.");
		}
		toast("The link is copied.");
	}

	async #shareLink() {
		const { lastGroup, link } = this.#session;
		const title = lastGroup?.name;
		try {
			await navigator.share({ title, text: `Join “${isolate(title ?? "")}”`, url: link });
		} catch (error) {
			if (!(error instanceof Error) || error.name !== "AbortError") throw error; // else the user cancelled
		}
	}
}

/** @param {GroupSession} session @param {{leave: () => void}} actions */
export function groupScreen(session, { leave }) {
	const title = h("h1", { tabindex: "-1", dir: "auto" });
	const members = memberList(session);
	const invitation = new Invitation(session);
	const notice = connectionNotice(session);
	const rings = ringNotice();
	const devices = deviceButtons(session.devices);
	const call = callCard(session, [devices.microphone, devices.camera, settingsButton(session.devices)]);
	const leaveButton = iconButton("leave", "Leave the group", { class: "quiet wide", onclick: leave });

	function update() {
		setText(title, session.lastGroup?.name ?? "");
		for (const part of [members, invitation, notice, devices, call]) part.update();
	}
	update();
	const column = h("div", { class: "column" }, call.element, members.element);
	return {
		element: h(
			"main",
			{ class: "group" },
			h("header", { class: "bar" }, logo("span"), leaveButton),
			notice.element,
			rings.element,
			title,
			h("div", { class: "columns" }, column, invitation.element),
		),
		focus: title,
		update,
		close() {
			notice.close();
			rings.close();
		},
	};
}

/** The call of the group: its participants, and the button that joins. @param {GroupSession} session @param {HTMLElement[]} buttons */
function callCard(session, buttons) {
	const avatars = h("div", { class: "avatars" });
	const text = h("p", {});
	const join = iconButton("phone", "", { class: "primary", onclick: asyncHandler(() => session.joinCall()) });
	const missed = h("p", { class: "missed", role: "status" });

	function update() {
		const { client } = session;
		const ids = [...client.call.participants.keys()].filter((id) => id !== client.userId);
		const names = ids.map((id) => session.nameOf(id));
		const isFull = ids.length >= (client.limits.callSize ?? Infinity);
		setText(text, canCall() ? callText(names.map(isolate), isFull) : NO_WEBRTC);
		if (avatars.dataset.ids !== ids.join()) {
			avatars.dataset.ids = ids.join();
			fill(avatars, ...names.map(avatar));
		}
		relabel(join, "phone", ids.length ? "Join the call" : "Start a call", {
			disabled: isFull || !session.isOnline || !canCall(),
		});
		setText(missed, missedCallText(session));
	}
	const choices = h("div", { class: "choices" }, join, h("span", { class: "controls" }, ...buttons));
	const properties = { class: "card callcard", "aria-label": "Call" };
	return { element: h("section", properties, avatars, text, missed, choices), update };
}

/** The last missed call, unless there was a call since. @param {GroupSession} session */
function missedCallText(session) {
	const { client, callEndedAt } = session;
	const last = client.call.recent.findLast(
		({ to, outcome }) => to === client.userId && /missed|cancelled/.test(outcome),
	);
	if (!last || last.endedAt < callEndedAt) return "";
	const when = new Date(last.endedAt).toLocaleTimeString([], { timeStyle: "short" });
	return `Missed call from ${isolate(session.nameOf(last.from))} at ${when}`;
}

/** @param {string[]} names @param {boolean} isFull */
function callText(names, isFull) {
	if (!names.length) return "Nobody is in a call. Start one, or ring somebody.";
	const shown = names.length > 3 ? [...names.slice(0, 2), `${names.length - 2} more`] : names;
	const list = shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown[0];
	return `${list} ${names.length > 1 ? "are" : "is"} in a call.${isFull ? " It is full; you can see here who is in it." : ""}`;
}
