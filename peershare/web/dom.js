// What all views build with: elements, lists that keep their elements, and words for those who don't look.

/** @import {Child, Properties, Row} from "./types" */

/** The path of the server's root, with a slash at its end: a proxy may show it below another. */
export const BASE = new URL("../", import.meta.url).pathname;

/**
 * An element. Properties that the element has are set; all others become attributes; `on…` are listeners.
 * `true` makes an attribute that is just there, `false` and null none.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Properties} [properties] @param {Child[]} children @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
	const element = document.createElement(tag);
	set(element, properties);
	element.append(...children.filter(isThere));
	return element;
}

/** @param {Child} child @returns {child is Node | string} */
const isThere = (child) => child !== null && child !== undefined && child !== false;

/** Set properties and attributes, as `h` does. @param {Element} element @param {Properties} properties */
export function set(element, properties) {
	for (const [name, value] of Object.entries(properties)) {
		if (name.startsWith("on")) {
			element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
		} else if (name === "class") {
			element.setAttribute("class", String(value));
		} else if (name in element && !/^(aria|alt$)/.test(name)) {
			// Setting a value anew would move the cursor, and restart a video.
			const target = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (element));
			if (target[name] !== value) target[name] = value;
		} else if (value === false || value === null || value === undefined) {
			element.removeAttribute(name);
		} else {
			element.setAttribute(name, value === true ? "" : String(value));
		}
	}
}

/**
 * Hide it, or show it. If it had the focus, another gets that: else it would be nowhere.
 * @param {HTMLElement} element @param {boolean} isHidden @param {HTMLElement | null} [heir]
 */
export function hide(element, isHidden, heir = document.querySelector("h1")) {
	if (isHidden && element === document.activeElement) heir?.focus();
	element.hidden = isHidden;
}

/** Put these children in, in place of what is there. @param {Element} element @param {Child[]} children */
export function fill(element, ...children) {
	element.replaceChildren(...children.filter(isThere));
}

/**
 * The text of an element, touched only where it changes, so that nothing is announced twice.
 * @param {Element} element @param {string} text
 */
export function say(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

/** @type {WeakMap<Element, Map<string, Row<any>>>} */
const lists = new WeakMap();

/**
 * An element for each item, in their order. One that stays is updated, and neither made anew nor moved
 * without need: a video goes on, a focus stays.
 * @template T
 * @param {Element} parent @param {Iterable<T>} items @param {(item: T) => string} key @param {(item: T) => Row<T>} make
 */
export function reconcile(parent, items, key, make) {
	const before = lists.get(parent) ?? new Map();
	const after = new Map();
	for (const item of items) {
		const name = key(item);
		const row = before.get(name) ?? make(item);
		row.update(item);
		after.set(name, row);
	}
	for (const [name, row] of before) if (!after.has(name)) row.element.remove();
	let at = parent.firstElementChild;
	for (const { element } of after.values()) {
		if (element === at) at = element.nextElementSibling;
		else parent.insertBefore(element, at);
	}
	lists.set(parent, after);
}

const SVG = "http://www.w3.org/2000/svg";

/** A picture of those in the document. What it says must stand beside it, or be its button's label. @param {string} name */
export function icon(name) {
	const svg = document.createElementNS(SVG, "svg");
	for (const [attribute, value] of Object.entries({ class: "icon", width: 24, height: 24 }))
		svg.setAttribute(attribute, String(value));
	svg.setAttribute("aria-hidden", "true");
	const use = document.createElementNS(SVG, "use");
	svg.append(use);
	draw(svg, name);
	return svg;
}

/** Show another picture. @param {Element} svg @param {string} name */
export function draw(svg, name) {
	const href = `#icon-${name}`;
	const [use] = svg.children;
	if (use.getAttribute("href") !== href) use.setAttribute("href", href);
}

/**
 * A button with a picture, and a label that is always heard. It is seen where the class says `wide` and there is room.
 * @param {string} picture @param {string} label @param {Properties & {onclick: (event: MouseEvent) => void}} properties
 */
export function iconButton(picture, label, properties) {
	return h(
		"button",
		{ type: "button", class: "round", title: label, ...properties },
		icon(picture),
		h("span", {}, label),
	);
}

/**
 * Change a button of `iconButton`.
 * @param {HTMLButtonElement} button @param {string} picture @param {string} label @param {Properties} [properties]
 */
export function relabel(button, picture, label, properties = {}) {
	const [svg, words] = button.children;
	draw(svg, picture);
	say(words, label);
	set(button, { title: label, ...properties });
}

/** Something of the page itself. @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** As the last of so many. @param {HTMLElement} place @param {HTMLElement} note @param {number} most */
function put(place, note, most) {
	place.append(note);
	if (place.childElementCount > most) place.firstElementChild?.remove();
}

/** Tell what happened to who does not see it. @param {string} text */
export function announce(text) {
	put(byId("announcer"), h("p", {}, text), 5);
}

const TOAST_SECONDS = 6;
const MAX_TOASTS = 4; // there is a page below them

/** Tell what happened, in a corner, for a few seconds. @param {string} text @param {"" | "bad"} [kind] */
export function toast(text, kind = "") {
	announce(text);
	const note = h("p", { class: `toast ${kind}`, "aria-hidden": "true" }, text);
	put(byId("toasts"), note, MAX_TOASTS);
	setTimeout(() => note.remove(), TOAST_SECONDS * 1000);
}

// Written from right to left, or said to be.
const TURNS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}\p{Bidi_C}]/u;

/**
 * A name for a sentence, whose order it does not change (Unicode UAX #9: an isolate, in which no other is left open).
 * @param {string} name
 */
export const inText = (name) => (TURNS.test(name) ? `\u2068${name.replace(/\p{Bidi_C}/gu, "")}\u2069` : name);

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** The first letter, or what is seen as one: an emoji may have many code points. @param {string} [word] */
const initial = (word = "") => [...letters.segment(word)][0]?.segment ?? "";

/** The letters and the colour that stand for somebody. @param {string} name */
export function avatar(name) {
	const words = name.trim().split(/\s+/u);
	const initials = initial(words[0]) + (words.length > 1 ? initial(words.at(-1)) : "");
	let sum = 0;
	for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360;
	const element = h("span", { class: "avatar", "aria-hidden": "true" }, initials.toLocaleUpperCase());
	element.style.setProperty("--hue", String(sum));
	return element;
}

/**
 * What the browser keeps for us, as JSON. Where it forbids that, it is kept for as long as the page is there.
 * @param {"localStorage" | "sessionStorage"} where @param {string} name
 */
export function kept(where, name) {
	/** @type {string | null} */
	let text = null;
	/** @param {(storage: Storage) => void} deed */
	const attempt = (deed) => {
		try {
			deed(window[where]);
		} catch {
			// It is forbidden, or full.
		}
	};
	attempt((storage) => (text = storage.getItem(name)));
	return {
		/** @returns {any} null where there is nothing */
		get() {
			try {
				return JSON.parse(text ?? "null");
			} catch {
				return null; // what somebody else has put there
			}
		},
		/** @param {unknown} value null to forget it */
		set(value) {
			text = JSON.stringify(value);
			attempt((storage) => storage.setItem(name, text ?? ""));
		},
	};
}
