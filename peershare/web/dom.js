// Helpers of all views: elements, lists that keep their elements, announcements, and storage.

/** @import {Child, Properties, Row} from "./types" */

/** The path of the server's root, with a slash at its end: a proxy may show it below another. */
export const BASE = new URL("../", import.meta.url).pathname;

/**
 * Make an element. Properties that the element has are set; all others become attributes; `on…` are listeners.
 * `true` makes an attribute without a value, `false` and null none.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Properties} [properties] @param {Child[]} children @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
	const element = document.createElement(tag);
	setProperties(element, properties);
	element.append(...children.filter(isPresent));
	return element;
}

/** @param {Child} child @returns {child is Node | string} */
const isPresent = (child) => child !== null && child !== undefined && child !== false;

/** Set properties and attributes as `h` does. @param {Element} element @param {Properties} properties */
export function setProperties(element, properties) {
	for (const [name, value] of Object.entries(properties)) {
		if (name.startsWith("on")) {
			element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
		} else if (name === "class") {
			element.setAttribute("class", String(value));
		} else if (name in element && !/^(aria|alt$)/.test(name)) {
			// Setting the same value again would move the cursor, or restart a video.
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
 * Hide or show it. If it had the focus, another element gets that, lest it be lost.
 * @param {HTMLElement} element @param {boolean} isHidden @param {HTMLElement | null} [focusTarget]
 */
export function hide(element, isHidden, focusTarget = document.querySelector("h1")) {
	if (isHidden && element === document.activeElement) focusTarget?.focus();
	element.hidden = isHidden;
}

/** Replace the children. @param {Element} element @param {Child[]} children */
export function fill(element, ...children) {
	element.replaceChildren(...children.filter(isPresent));
}

/**
 * Set the text of an element, only if it differs: else a screen reader would announce it again.
 * @param {Element} element @param {string} text
 */
export function setText(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

/** @type {WeakMap<Element, Map<string, Row<any>>>} */
const rowsOf = new WeakMap();

/**
 * Show an element for each item, in their order. Elements that stay are updated, and not moved without need: videos
 * go on, and the focus stays.
 * @template T
 * @param {Element} parent @param {Iterable<T>} items @param {(item: T) => string} key @param {(item: T) => Row<T>} make
 */
export function reconcile(parent, items, key, make) {
	const before = rowsOf.get(parent) ?? new Map();
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
	rowsOf.set(parent, after);
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of those in the document. Its meaning must be in text beside it, or in its button's label. @param {string} name */
export function icon(name) {
	const svg = document.createElementNS(SVG, "svg");
	for (const [attribute, value] of Object.entries({ class: "icon", width: 24, height: 24 }))
		svg.setAttribute(attribute, String(value));
	svg.setAttribute("aria-hidden", "true");
	const use = document.createElementNS(SVG, "use");
	svg.append(use);
	setIcon(svg, name);
	return svg;
}

/** Show another icon. @param {Element} svg @param {string} name */
export function setIcon(svg, name) {
	const href = `#icon-${name}`;
	const [use] = svg.children;
	if (use.getAttribute("href") !== href) use.setAttribute("href", href);
}

/**
 * A button with an icon, and a label for screen readers. It is visible where the class says `wide` and there is space.
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
 * @param {HTMLButtonElement} button @param {string} picture @param {string} text @param {Properties} [properties]
 */
export function relabel(button, picture, text, properties = {}) {
	const [svg, label] = button.children;
	setIcon(svg, picture);
	setText(label, text);
	setProperties(button, { title: text, ...properties });
}

/** An element of the document. @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {HTMLElement} parent @param {HTMLElement} child @param {number} limit */
function appendLimited(parent, child, limit) {
	parent.append(child);
	if (parent.childElementCount > limit) parent.firstElementChild?.remove();
}

/** Tell screen readers. @param {string} text */
export function announce(text) {
	appendLimited(byId("announcer"), h("p", {}, text), 5);
}

const TOAST_SECONDS = 6;
const MAX_TOASTS = 4; // more would cover the page

/** Show a message for a few seconds, and announce it. @param {string} text @param {"" | "bad"} [kind] */
export function toast(text, kind = "") {
	announce(text);
	const note = h("p", { class: `toast ${kind}`, "aria-hidden": "true" }, text);
	appendLimited(byId("toasts"), note, MAX_TOASTS);
	setTimeout(() => note.remove(), TOAST_SECONDS * 1000);
}

/**
 * Show a dialog with a title and a button that closes it, over all else.
 * @param {string} name of its class @param {string} title @param {Child[]} content
 */
export function showDialog(name, title, ...content) {
	const close = h("button", { class: "quiet round", title: "Close", "aria-label": "Close" }, icon("close"));
	const dialog = h(
		"dialog",
		{ class: name, "aria-labelledby": "dialog-title" },
		h("form", { method: "dialog", class: "bar" }, h("h2", { id: "dialog-title" }, title), close),
		...content,
	);
	const announcer = byId("announcer");
	dialog.addEventListener("close", () => {
		document.body.append(announcer);
		dialog.remove();
	});
	document.body.append(dialog);
	dialog.append(announcer); // outside of a modal dialog, nothing is announced
	dialog.showModal();
	return dialog;
}

// Letters written from right to left, and marks that set a direction.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}\p{Bidi_C}]/u;

/**
 * A name for use in a sentence, whose order it must not change (Unicode UAX #9: an isolate, in which no other is left open).
 * @param {string} name
 */
export const isolate = (name) => (RIGHT_TO_LEFT.test(name) ? `\u2068${name.replace(/\p{Bidi_C}/gu, "")}\u2069` : name);

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** The first grapheme: an emoji may have many code points. @param {string} [word] */
const initial = (word = "") => [...letters.segment(word)][0]?.segment ?? "";

/** The initials of a name on a colour of its own. @param {string} name */
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
 * A value in the browser's storage, as JSON. Where the browser forbids that, it lasts as long as the page.
 * @param {"localStorage" | "sessionStorage"} where @param {string} name
 */
export function stored(where, name) {
	/** @type {string | null} */
	let text = null;
	/** @param {(storage: Storage) => void} action */
	const attempt = (action) => {
		try {
			action(window[where]);
		} catch {
			// Forbidden, or full.
		}
	};
	attempt((storage) => (text = storage.getItem(name)));
	return {
		/** @returns {any} null if there is none */
		get() {
			try {
				return JSON.parse(text ?? "null");
			} catch {
				return null; // not written by us
			}
		},
		/** @param {unknown} value null to remove it */
		set(value) {
			text = JSON.stringify(value);
			attempt((storage) => storage.setItem(name, text ?? ""));
		},
	};
}
