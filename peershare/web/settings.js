// The choice of camera, microphone and speaker, with the level of the microphone; and the button for the settings.

import { fill, h, iconButton } from "./dom.js";
import { checkLink } from "./landing.js";
import { LevelMeter, canChooseSpeaker } from "./media.js";
import { asyncHandler } from "./notice.js";

/** @import {DeviceName, Devices} from "./types" */

const DEVICES = /** @type {const} */ ([
	["microphone", "audioinput", "Microphone"],
	["speaker", "audiooutput", "Speaker"],
	["camera", "videoinput", "Camera"],
]);

/**
 * A choice of devices, and a meter that shows that the microphone works.
 * @param {Devices} devices @param {string} [hint] added to each fault: the things that are possible nevertheless
 */
export function devicePickers(devices, hint) {
	const bar = h("div", { class: "meter", role: "meter", "aria-label": "Level of your microphone" }); // 0 to 100
	const meter = new LevelMeter((level) => {
		bar.style.setProperty("--level", level.toFixed(2));
		bar.setAttribute("aria-valuenow", String(Math.round(level * 100)));
	});
	const faults = h("div", { class: "faults", role: "status" });
	const check = h("p", {}, checkLink());
	const pickers = DEVICES.filter(([name]) => name !== "speaker" || canChooseSpeaker()).map(([name, kind, label]) => {
		const select = h("select", { id: `pick-${name}`, onchange: () => devices.use(name, select.value) });
		const row = h(
			"div",
			{ class: "field" },
			h("label", { htmlFor: select.id }, label),
			select,
			name === "microphone" && bar,
		);
		return { row, update: () => updateOptions(select, devices, name, kind) };
	});

	function update() {
		const messages = devices.faultMessages.map((message) => (hint ? `${message} ${hint}` : message));
		for (const picker of pickers) picker.update();
		check.hidden = messages.length === 0;
		bar.hidden = !devices.audio; // without a track it would look broken
		meter.setTrack(devices.choice.muted ? null : devices.audio);
		if (messages.join() === faults.dataset.messages) return;
		faults.dataset.messages = messages.join();
		fill(faults, ...messages.map((message) => h("p", { class: "notice bad" }, message)));
	}

	devices.addEventListener("change", update);
	update();
	return {
		element: h("div", { class: "pickers" }, faults, check, ...pickers.map(({ row }) => row)),
		close() {
			devices.removeEventListener("change", update);
			meter.stop();
		},
	};
}

/** @param {HTMLSelectElement} select @param {Devices} devices @param {DeviceName} name @param {MediaDeviceKind} kind */
function updateOptions(select, devices, name, kind) {
	// Before a permission is given, browsers list devices without IDs and names, one of each kind.
	const found = devices.list.filter(
		(device) => device.kind === kind && device.deviceId && device.deviceId !== "default",
	);
	const options = [["", "System default"], ...found.map((device) => [device.deviceId, device.label])];
	if (select.dataset.options !== JSON.stringify(options)) {
		select.dataset.options = JSON.stringify(options);
		fill(select, ...options.map(([value, label]) => new Option(label, value)));
	}
	const used = devices.preferred(name);
	select.value = found.some((device) => device.deviceId === used) ? used : "";
	select.disabled = found.length === 0;
}

/** What the first screen does without. */
const loadDialog = () => import("./settings-dialog.js");

/** @param {Devices} devices */
export function settingsButton(devices) {
	loadDialog().catch(() => {}); // before the server may be away
	return iconButton("settings", "Settings", {
		onclick: asyncHandler(async () => (await loadDialog()).showSettings(devices)),
	});
}
