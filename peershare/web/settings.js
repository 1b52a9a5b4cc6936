// Which camera, microphone and speaker; how loud the microphone is; and the keys.

import { byId, fill, h, icon, iconButton, kept } from "./dom.js";
import { LevelMeter, canChooseSpeaker } from "./media.js";
import { doing } from "./notice.js";
import { canNotify, notifies, notifyOfRings } from "./rings.js";

/** @import {Devices} from "./types" */

const WHAT = /** @type {const} */ ([
	["microphone", "audioinput", "Microphone"],
	["speaker", "audiooutput", "Speaker"],
	["camera", "videoinput", "Camera"],
]);

/**
 * A choice of devices, and a meter that shows that the microphone works.
 * @param {Devices} devices @param {string} [hint] what one can do all the same, where something is wrong
 */
export function devicePickers(devices, hint) {
	const bar = h("div", { class: "meter", role: "meter", "aria-label": "How loud your microphone is" }); // 0 to 100
	const meter = new LevelMeter((level) => {
		bar.style.setProperty("--level", level.toFixed(2));
		bar.setAttribute("aria-valuenow", String(Math.round(level * 100)));
	});
	const faults = h("div", { class: "faults", role: "status" });
	const pickers = WHAT.filter(([what]) => what !== "speaker" || canChooseSpeaker()).map(([what, kind, label]) => {
		const select = h("select", { id: `pick-${what}`, onchange: () => devices.use(what, select.value) });
		const row = h(
			"div",
			{ class: "field" },
			h("label", { htmlFor: select.id }, label),
			select,
			what === "microphone" && bar,
		);
		return { row, update: () => offer(select, devices, what, kind) };
	});

	function update() {
		for (const picker of pickers) picker.update();
		bar.hidden = !devices.audio; // outside of a call it would look broken
		meter.listen(devices.choice.muted ? null : devices.audio);
		const sentences = devices.wrong.map((sentence) => (hint ? `${sentence} ${hint}` : sentence));
		if (sentences.join() === faults.dataset.said) return;
		faults.dataset.said = sentences.join();
		fill(faults, ...sentences.map((sentence) => h("p", { class: "notice bad" }, sentence)));
	}

	devices.addEventListener("change", update);
	update();
	return {
		element: h("div", { class: "pickers" }, faults, ...pickers.map(({ row }) => row)),
		close() {
			devices.removeEventListener("change", update);
			meter.stop();
		},
	};
}

/**
 * @param {HTMLSelectElement} select @param {Devices} devices @param {"microphone" | "speaker" | "camera"} what
 * @param {MediaDeviceKind} kind
 */
function offer(select, devices, what, kind) {
	// Before a permission is given, browsers tell of devices without names, one of each kind.
	const found = devices.list.filter(
		(device) => device.kind === kind && device.deviceId && device.deviceId !== "default",
	);
	const offered = [["", "System default"], ...found.map((device) => [device.deviceId, device.label])];
	if (select.dataset.offered !== JSON.stringify(offered)) {
		select.dataset.offered = JSON.stringify(offered);
		fill(select, ...offered.map(([value, label]) => new Option(label, value)));
	}
	const used = devices.preferred(what);
	select.value = found.some((device) => device.deviceId === used) ? used : "";
	select.disabled = found.length === 0;
}

/** The keys, in the order of their buttons in the bar of a call. */
export const KEYS = [
	["m", "Mute or unmute"],
	["v", "Camera on or off"],
	["s", "Share your screen, or stop"],
	["p", "People and the link"],
	["i", "Picture in picture"],
	["f", "Full screen"],
	["?", "These keys"],
];

const keysKept = kept("localStorage", "peershare.keys");

/** Whether single keys do something: not everybody can keep from touching them (WCAG 2.1.4). */
export const keysAreOn = () => keysKept.get() !== false;

/** @param {Devices} devices */
export const settingsButton = (devices) => iconButton("settings", "Settings", { onclick: () => showSettings(devices) });

/** The settings in a window of their own. @param {Devices} devices */
function showSettings(devices) {
	const pickers = devicePickers(devices);
	const keys = h("input", {
		type: "checkbox",
		id: "keys",
		checked: keysAreOn(),
		onchange: () => keysKept.set(keys.checked),
	});
	/** @type {HTMLInputElement} */
	const calls = h("input", {
		type: "checkbox",
		id: "calls",
		checked: notifies(),
		onchange: doing(() => notifyOfRings(calls.checked).finally(() => (calls.checked = notifies()))),
	});
	const rows = KEYS.map(([key, meaning]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, meaning)));
	const dialog = h(
		"dialog",
		{ class: "settings", "aria-labelledby": "settings-title" },
		h("form", { method: "dialog", class: "bar" }, h("h2", { id: "settings-title" }, "Settings"), closeButton()),
		pickers.element,
		canNotify() &&
			h(
				"p",
				{ class: "check" },
				calls,
				h("label", { htmlFor: "calls" }, "Show who calls while the page is in the background"),
			),
		h("h3", {}, "Keys"),
		h("dl", { class: "keys" }, ...rows),
		h("p", { class: "check" }, keys, h("label", { htmlFor: "keys" }, "Use these keys during a call")),
	);
	const announcer = byId("announcer");
	dialog.addEventListener("close", () => {
		document.body.append(announcer);
		pickers.close();
		dialog.remove();
	});
	document.body.append(dialog);
	dialog.append(announcer); // outside of a dialog, nothing is heard
	dialog.showModal();
}

const closeButton = () => h("button", { class: "quiet round", title: "Close", "aria-label": "Close" }, icon("close"));
