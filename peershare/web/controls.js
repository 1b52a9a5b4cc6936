// The buttons of a call: for microphone and camera, which the lobby and the group have as well, and all others.

import { h, iconButton, relabel } from "./dom.js";
import { canShareScreen } from "./media.js";
import { doing } from "./notice.js";
import { KEYS, settingsButton } from "./settings.js";

/** @import {CallActions, Devices, Room} from "./types" */

/** What the label says is what comes next; with `aria-pressed`, it would be the opposite. @param {string | false} how @param {string} [more] */
const look = (how, more = "") => `round ${how || ""} ${more}`;

/** What the button for the camera says: a screen that is shared takes its place. @param {Devices} devices */
function cameraLabel({ isCameraOff, screen }) {
	if (screen) return isCameraOff ? "Turn camera on, for after sharing" : "Turn camera off (not shown while you share)";
	return isCameraOff ? "Turn camera on" : "Turn camera off";
}

/** @param {Devices} devices */
export function deviceButtons(devices) {
	const mic = iconButton("mic", "Mute", { onclick: () => devices.mute(!devices.isMuted) });
	const camera = iconButton("camera", "Turn camera off", {
		onclick: () => devices.turnCameraOff(!devices.isCameraOff),
	});
	return {
		mic,
		camera,
		update() {
			const muted = devices.isMuted;
			const off = devices.isCameraOff || devices.screen !== null;
			relabel(mic, muted ? "mic-off" : "mic", muted ? "Unmute" : "Mute", { class: look(muted && "off") });
			relabel(camera, off ? "camera-off" : "camera", cameraLabel(devices), { class: look(off && "off") });
		},
	};
}

/**
 * The bar of a call. `press` does what a key stands for.
 * @param {Room} room @param {HTMLElement} panel of people @param {CallActions} actions
 */
export function controls(room, panel, { leaveCall, togglePanel, pip }) {
	const { devices } = room;
	const { mic, camera, update: updateDevices } = deviceButtons(devices);
	const toggleScreen = async () => (devices.screen ? devices.stopScreen() : devices.shareScreen());
	const screen = iconButton("screen", "Share your screen", { onclick: doing(toggleScreen) });
	const people = iconButton("people", "People and the link", {
		"aria-controls": panel.id,
		onclick: togglePanel,
	});
	const small = iconButton("pip", "Picture in picture", { class: "round rare", onclick: doing(pip) });
	const full = iconButton("full", "Full screen", { class: "round rare", onclick: doing(toggleFull) });
	const settings = settingsButton(devices);
	const out = iconButton("hang-up", "Leave the call", { class: "round danger", onclick: leaveCall });
	screen.hidden = !canShareScreen();
	small.hidden = !document.pictureInPictureEnabled;
	full.hidden = !document.fullscreenEnabled;
	const buttons = [mic, camera, screen, people, small, full, settings, out];
	KEYS.forEach(([key], at) => buttons[at].setAttribute("aria-keyshortcuts", key));

	function update() {
		updateDevices();
		const sharing = devices.screen !== null;
		relabel(screen, sharing ? "screen-off" : "screen", sharing ? "Stop sharing" : "Share your screen", {
			class: look(sharing && "on"),
		});
		people.setAttribute("aria-expanded", String(!panel.hidden));
		people.disabled = room.group === null;
		const isSmall = document.pictureInPictureElement !== null;
		relabel(small, "pip", isSmall ? "Close picture in picture" : "Picture in picture", {
			class: look(isSmall && "on", "rare"),
		});
		const isFull = document.fullscreenElement !== null;
		relabel(full, "full", isFull ? "Leave full screen" : "Full screen", { class: look(isFull && "on", "rare") });
	}
	// Both end in other ways as well: by Escape, by a window's own button.
	const living = new AbortController();
	for (const type of ["fullscreenchange", "enterpictureinpicture", "leavepictureinpicture"])
		document.addEventListener(type, update, { signal: living.signal });
	return {
		element: h("div", { class: "controls toolbar", role: "group", "aria-label": "Call" }, ...buttons),
		people,
		update,
		close: () => living.abort(),
		/** @param {string} key */
		press: (key) => buttons.find((it) => !it.hidden && it.getAttribute("aria-keyshortcuts") === key)?.click(),
	};
}

async function toggleFull() {
	if (document.fullscreenElement) await document.exitFullscreen();
	else await document.documentElement.requestFullscreen();
}
