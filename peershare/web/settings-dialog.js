// The settings' dialog: devices, notifications, keys.

import { h, showDialog } from "./dom.js";
import { KEYS, keysAreOn, turnKeys } from "./keys.js";
import { asyncHandler } from "./notice.js";
import { canNotify, notifies, notifyOfRings } from "./rings.js";
import { devicePickers } from "./settings.js";

/** @import {Child, Devices} from "./types" */

/** @param {Devices} devices */
export function showSettings(devices) {
	const pickers = devicePickers(devices);
	const dialog = showDialog(
		"settings",
		"Settings",
		pickers.element,
		canNotify() && notificationCheckbox(),
		h("h3", {}, "Keys"),
		keyHelp(),
		keyCheckbox(),
	);
	dialog.addEventListener("close", pickers.close);
}

function notificationCheckbox() {
	/** @type {HTMLInputElement} */
	const input = h("input", {
		type: "checkbox",
		id: "calls",
		checked: notifies(),
		onchange: asyncHandler(() => notifyOfRings(input.checked).finally(() => (input.checked = notifies()))),
	});
	return checkbox(input, "Show who calls while the page is in the background");
}

const keyHelp = () =>
	h(
		"dl",
		{ class: "keys" },
		...Object.values(KEYS).map(({ key, label }) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, label))),
	);

function keyCheckbox() {
	const input = h("input", {
		type: "checkbox",
		id: "keys",
		checked: keysAreOn(),
		onchange: () => turnKeys(input.checked),
	});
	return checkbox(input, "Use these keys during a call");
}

/** @param {HTMLInputElement} input @param {Child} label */
const checkbox = (input, label) => h("p", { class: "check" }, input, h("label", { htmlFor: input.id }, label));
