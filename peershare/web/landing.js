// The first screen: create a group, or join one.

import { BASE, h, icon, setText, toast } from "./dom.js";
import { errorMessage } from "./notice.js";
import { accountButton, signIn } from "./sign-in.js";

/** @import {LandingOptions, Properties} from "./types" */

const GROUP_ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
const INTRODUCTION =
	"Make a group, send its link, call each other. Picture and sound go straight from browser to browser; nothing to install, no account.";

/** The group ID in a link, or in any text; null if there is none. @param {string} text */
export const groupIdIn = (text) => GROUP_ID.exec(text)?.[0].toLowerCase() ?? null;

/** @param {"a" | "span"} [tag] a link, where following it does no harm */
export const logo = (tag = "a") =>
	h(tag, { class: "logo", ...(tag === "a" && { href: BASE }) }, icon("logo"), "PeerShare");

/** A link to the page that tests this device. It has a tab of its own: there may be a call in this one. */
export const checkLink = () =>
	h("a", { class: "link", href: `${BASE}check`, target: "_blank" }, "Check this device (in a new tab)");

/**
 * A field with its label, and a place for an error.
 * @param {string} label @param {Properties & {id: string}} properties
 */
export function field(label, properties) {
	const errorId = `${properties.id}-error`;
	const input = h("input", { autocomplete: "off", spellcheck: false, "aria-describedby": errorId, ...properties });
	const error = h("p", { id: errorId, class: "error", role: "alert" });
	return {
		element: h("div", { class: "field" }, h("label", { htmlFor: properties.id }, label), input, error),
		input,
		get value() {
			return input.value.trim();
		},
		/** @param {string} text empty for none */
		showError(text) {
			setText(error, text);
			input.setAttribute("aria-invalid", String(text !== ""));
			if (text) input.focus();
		},
	};
}

/** The user's name; that of the account, where somebody is signed in. @param {string} value @param {Properties} [properties] */
export function nameField(value, properties) {
	const result = field("Your name", {
		id: "name",
		value,
		maxLength: 50,
		autocomplete: "name",
		dir: "auto",
		"aria-describedby": "name-error name-hint",
		...properties,
	});
	/** The name; "" shows an error. */
	const check = () => {
		result.showError(result.value ? "" : "Enter your name. The others will see it.");
		return result.value;
	};
	const update = () => {
		const { account } = signIn;
		if (account) result.input.value = account.username;
		result.input.readOnly = account !== null;
		setText(hint, account ? "The name of your account." : "");
	};
	const hint = h("p", { id: "name-hint", class: "state" });
	result.element.append(hint);
	update();
	return Object.assign(result, { check, update });
}

/** @param {LandingOptions} options */
export function landingScreen({ name, group = "", create, join, message = "" }) {
	const user = nameField(name, { placeholder: "Ann" });
	const groupName = field("Name of the group", {
		id: "group",
		value: group,
		maxLength: 100,
		placeholder: "Friends",
		dir: "auto",
	});
	const link = field("Link or ID of a group", { id: "link", inputMode: "url", placeholder: "https://…/group/…" });

	/** @param {SubmitEvent} event */
	function onCreate(event) {
		event.preventDefault();
		const username = user.check();
		if (username) groupName.showError(groupName.value ? "" : "Enter a name for the group.");
		if (groupName.value && username) create(groupName.value, username);
	}

	/** @param {SubmitEvent} event */
	function onJoin(event) {
		event.preventDefault();
		const id = groupIdIn(link.value);
		link.showError(id ? "" : "Enter the link or ID of a group. A link ends with an ID such as e150ce90-98ca-….");
		if (id) join(id, user.value);
	}

	const createForm = h(
		"form",
		{ onsubmit: onCreate, noValidate: true },
		user.element,
		groupName.element,
		h("button", { class: "primary" }, icon("people"), "Make a group"),
	);
	const joinForm = h(
		"form",
		{ class: "inline", onsubmit: onJoin, noValidate: true },
		link.element,
		h("button", { class: "secondary" }, "Open"),
	);
	const notice = message && h("p", { class: "notice" }, message);
	const or = h("p", { class: "or" }, h("span", {}, "or join one"));
	const account = accountButton();
	const groups = h("div", { hidden: true });
	const showGroups = async () => (await import("./account.js")).showGroups(groups);
	/** Whose groups are shown. */
	let shown = "";

	function update() {
		account.update();
		user.update();
		const { id = "" } = signIn.account ?? {};
		if (id === shown) return;
		shown = id;
		groups.hidden = true;
		if (id && document.activeElement === user.input) groupName.input.focus();
		if (id) showGroups().catch((error) => toast(errorMessage(error), "bad"));
	}
	const element = h(
		"main",
		{ class: "landing" },
		h("header", { class: "bar" }, logo(), account.element),
		h(
			"div",
			{ class: "hero" },
			h(
				"div",
				{ class: "introduction" },
				h("h1", { tabindex: "-1" }, "See your people."),
				h("p", {}, INTRODUCTION),
				h("p", {}, checkLink()),
				groups,
			),
			h("div", { class: "card" }, notice, createForm, or, joinForm),
		),
	);
	update();
	return { element, focus: user.value ? groupName.input : user.input, update };
}
