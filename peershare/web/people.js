// What those who may moderate do: with a member, and with the group. docs/moderation.md.

import { fill, h, hide, isolate, setText, showDialog, toast } from "./dom.js";
import { asyncHandler } from "./notice.js";

/** @import {Ban, GroupSession, Member, Role} from "./types" */

const DAY = 86_400; // s

/** What a button is called that gives a role, and what the role means. @type {[Role, string, string][]} */
const GIVEN = [
	["moderator", "Make a moderator", "a moderator: may remove people, lock the group, and name moderators"],
	["member", "Make a member", "a member: may call and show a screen"],
	["observer", "Only let watch and listen", "an observer: is neither seen nor heard"],
];
/** @type {Record<string, string>} */
const MEANINGS = {
	owner: "an owner: may do everything here",
	guest: "a guest: may call, and not show a screen",
	...Object.fromEntries(GIVEN.map(([role, , meaning]) => [role, meaning])),
};

/** Show what can be done: about a member, or in our own place about the group. @param {GroupSession} session @param {Member} member */
export const manage = (session, member) =>
	member.id === session.group?.me.id ? showGroup(session) : showMember(session, member);

/** Show what can be done about a member until that is done, or the member is gone. @param {GroupSession} session @param {Member} member */
function showMember(session, member) {
	const name = isolate(member.username);
	const role = h("p", { role: "status" });
	const roles = GIVEN.map(([given, label]) => {
		const give = () => session.client.request("member-role-set", { userId: member.id, role: given });
		return { given, button: button("secondary", label, give) };
	});
	const keepOut = h("input", { type: "checkbox", id: "keep-out" });
	const remove = button("danger", `Remove ${name}`, async () => {
		await session.client.request("member-kick", { userId: member.id, ...(keepOut.checked && { banSeconds: DAY }) });
		toast(`${name} is out${keepOut.checked ? ", for a day" : ""}.`);
	});
	const dialog = showDialog(
		"people",
		name,
		role,
		h("div", { class: "choices" }, ...roles.map(({ button }) => button)),
		h("h3", {}, "Remove"),
		h("p", {}, `${name} is out at once, and nobody sees or hears anything from there any more.`),
		h("p", { class: "check" }, keepOut, h("label", { htmlFor: keepOut.id }, "And keep out for a day")),
		h("p", { class: "hint" }, "Without an account, that is by address: others there can't come in either meanwhile."),
		remove,
	);

	follow(session, dialog, () => {
		const current = session.group?.members.get(member.id);
		if (!current || !session.mayManage(current)) return dialog.close();
		const { role: own = "member" } = current;
		const isOwner = session.group?.me.role === "owner"; // moderators give the roles below theirs
		setText(role, `${name} is ${MEANINGS[own]}.`);
		for (const { given, button } of roles) hide(button, given === own || (given === "moderator" && !isOwner), remove);
	});
}

/** Show what can be done about the group: to lock it, and to let in again who was kept out. @param {GroupSession} session */
function showGroup(session) {
	const state = h("p", { role: "status" });
	const lock = button("secondary", "", () =>
		session.client.request("group-update", { locked: !session.group?.settings?.locked }),
	);
	const bans = h("ul", { class: "members" });
	const title = h("h3", { tabindex: "-1" }, "Kept out");
	const dialog = showDialog("people", "This group", state, lock, title, bans);

	const list = async () => {
		const { bans: found } = await session.client.request("ban-list", {});
		fill(bans, ...found.map(row));
		setText(title, found.length ? "Kept out" : "Nobody is kept out");
	};
	/** @param {Ban} ban */
	const row = ({ userId, username, until }) => {
		const lift = button("secondary small", "Let in again", async () => {
			await session.client.request("ban-lift", { userId });
			title.focus();
			await list();
		});
		lift.setAttribute("aria-label", `Let ${isolate(username)} in again`);
		return h("li", {}, h("span", { class: "text" }, `${isolate(username)}, until ${dateText(until)}`), lift);
	};
	asyncHandler(list)();

	follow(session, dialog, () => {
		if (!session.group || !session.mayManage(session.group.me)) return dialog.close();
		const { locked } = session.group.settings ?? {};
		setText(state, locked ? "It is locked: nobody new may come in." : "Whoever has the link may come in.");
		setText(lock, locked ? "Unlock the group" : "Lock the group");
	});
}

/** @param {string} style @param {string} label @param {() => Promise<unknown>} action */
const button = (style, label, action) =>
	h("button", { type: "button", class: style, onclick: asyncHandler(action) }, label);

/** @param {number} date */
const dateText = (date) => new Date(date).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** Update with the session while the dialog is open. @param {GroupSession} session @param {HTMLDialogElement} dialog @param {() => void} update */
function follow(session, dialog, update) {
	const closed = new AbortController();
	session.addEventListener("change", update, { signal: closed.signal });
	dialog.addEventListener("close", () => {
		closed.abort();
		// The member's row may be gone, and with it the button that had the focus.
		/** @type {HTMLElement | null} */
		const heading = document.querySelector(".member-list h2");
		if (document.activeElement === document.body) heading?.focus();
	});
	update();
}
