// The first screen: make a group, or join one.

import { BASE, h, icon, say } from "./dom.js";

/** @import {LandingOptions, Properties} from "./types" */

const GROUP_ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;

/** The ID in a link, or in whatever was pasted; null where there is none. @param {string} text */
export const groupIdIn = (text) => GROUP_ID.exec(text)?.[0].toLowerCase() ?? null;

/** @param {"a" | "span"} [tag] a link, where to follow it does no harm */
export const logo = (tag = "a") =>
	h(tag, { class: "logo", ...(tag === "a" && { href: BASE }) }, icon("logo"), "PeerShare");

/**
 * A field with its label, and a place for what is wrong with it.
 * @param {string} label @param {Properties & {id: string}} properties
 */
export function field(label, properties) {
	const input = h("input", {
		autocomplete: "off",
		spellcheck: false,
		"aria-describedby": `${properties.id}-wrong`,
		...properties,
	});
	const wrong = h("p", { id: `${properties.id}-wrong`, class: "wrong", role: "alert" });
	return {
		element: h("div", { class: "field" }, h("label", { htmlFor: properties.id }, label), input, wrong),
		input,
		/** @param {string} sentence */
		complain(sentence) {
			say(wrong, sentence);
			input.setAttribute("aria-invalid", String(sentence !== ""));
			if (sentence) input.focus();
		},
	};
}

/** @param {LandingOptions} options */
export function landing({ name, group = "", create, join, message = "" }) {
	const who = field("Your name", {
		id: "name",
		value: name,
		maxLength: 50,
		autocomplete: "name",
		placeholder: "Ann",
		dir: "auto",
	});
	const what = field("Name of the group", {
		id: "group",
		value: group,
		maxLength: 100,
		placeholder: "Friends",
		dir: "auto",
	});
	const where = field("Link or ID of a group", { id: "link", inputMode: "url", placeholder: "https://…/group/…" });

	/** @param {SubmitEvent} event */
	function onCreate(event) {
		event.preventDefault();
		const [groupName, username] = [what.input.value.trim(), who.input.value.trim()];
		who.complain(username ? "" : "Say who you are: the others will see it.");
		if (username) what.complain(groupName ? "" : "Give the group a name.");
		if (groupName && username) create(groupName, username);
	}

	/** @param {SubmitEvent} event */
	function onJoin(event) {
		event.preventDefault();
		const id = groupIdIn(where.input.value);
		where.complain(id ? "" : "There is no group in this. A link ends with an ID such as e150ce90-98ca-….");
		if (id) join(id, who.input.value.trim());
	}

	const element = h(
		"main",
		{ class: "landing" },
		h("header", { class: "bar" }, logo()),
		h(
			"div",
			{ class: "hero" },
			h(
				"div",
				{ class: "pitch" },
				h("h1", { tabindex: "-1" }, "See your people."),
				h(
					"p",
					{},
					"Make a group, send its link, call each other. Picture and sound go straight from browser to browser; nothing to install, no account.",
				),
			),
			h(
				"div",
				{ class: "card" },
				message && h("p", { class: "notice" }, message),
				h(
					"form",
					{ onsubmit: onCreate, noValidate: true },
					who.element,
					what.element,
					h("button", { class: "primary" }, icon("people"), "Make a group"),
				),
				h("p", { class: "or" }, h("span", {}, "or join one")),
				h(
					"form",
					{ class: "inline", onsubmit: onJoin, noValidate: true },
					where.element,
					h("button", { class: "secondary" }, "Open"),
				),
			),
		),
	);
	return { element, focus: name ? what.input : who.input };
}
