// The buttons for microphone and camera, which the screens share, and the bar of a call.

import { h, iconButton, relabel } from "./dom.js";
import { KEYS } from "./keys.js";
import { canShareScreen } from "./media.js";
import { asyncHandler } from "./notice.js";
import { settingsButton } from "./settings.js";

/** @import {CallActions, Devices, GroupSession} from "./types" */

/** The class of a round button. Its label tells the next state; with `aria-pressed`, it would be read as the present one. @param {string | false} state @param {string} [more] */
const round = (state, more = "") => `round ${state || ""} ${more}`;

/** A shared screen takes the place of the camera. @param {Devices} devices */
function cameraLabel({ isCameraOff, screen }) {
	if (screen) return isCameraOff ? "Turn camera on, for after sharing" : "Turn camera off (not shown while you share)";
	return isCameraOff ? "Turn camera on" : "Turn camera off";
}

/** @param {Devices} devices */
export function deviceButtons(devices) {
	const microphone = iconButton("mic", "Mute", { onclick: () => devices.mute(!devices.isMuted) });
	const camera = iconButton("camera", "Turn camera off", {
		onclick: () => devices.turnCameraOff(!devices.isCameraOff),
	});
	return {
		microphone,
		camera,
		update() {
			const muted = devices.isMuted;
			const off = devices.isCameraOff || devices.screen !== null;
			relabel(microphone, muted ? "mic-off" : "mic", muted ? "Unmute" : "Mute", { class: round(muted && "off") });
			relabel(camera, off ? "camera-off" : "camera", cameraLabel(devices), { class: round(off && "off") });
		},
	};
}

/**
 * The bar of a call.
 * @param {GroupSession} session @param {HTMLElement} panel of people @param {CallActions} actions
 */
export function callControls(session, panel, actions) {
	const { devices } = session;
	const { microphone, camera, update: updateDevices } = deviceButtons(devices);
	const buttons = { microphone, camera, ...callButtons(devices, panel, actions) };
	const { screen, people, pictureInPicture, fullScreen } = buttons;
	screen.hidden = !canShareScreen();
	pictureInPicture.hidden = !document.pictureInPictureEnabled;
	fullScreen.hidden = !document.fullscreenEnabled;
	for (const name of /** @type {(keyof typeof KEYS)[]} */ (Object.keys(KEYS)))
		buttons[name].setAttribute("aria-keyshortcuts", KEYS[name].key);

	function update() {
		updateDevices();
		const sharing = devices.screen !== null;
		relabel(screen, sharing ? "screen-off" : "screen", sharing ? "Stop sharing" : "Share your screen", {
			class: round(sharing && "on"),
		});
		people.setAttribute("aria-expanded", String(!panel.hidden));
		people.disabled = session.group === null;
		const isSmall = document.pictureInPictureElement !== null;
		relabel(pictureInPicture, "pip", isSmall ? "Close picture in picture" : "Picture in picture", {
			class: round(isSmall && "on", "rare"),
		});
		const isFull = document.fullscreenElement !== null;
		relabel(fullScreen, "full", isFull ? "Leave full screen" : "Full screen", { class: round(isFull && "on", "rare") });
	}
	// Both end in other ways as well: by Escape, by a window's own button.
	const lifetime = new AbortController();
	for (const type of ["fullscreenchange", "enterpictureinpicture", "leavepictureinpicture"])
		document.addEventListener(type, update, { signal: lifetime.signal });
	return {
		element: h("div", { class: "controls toolbar", role: "group", "aria-label": "Call" }, ...Object.values(buttons)),
		buttons,
		update,
		close: () => lifetime.abort(),
	};
}

/** The buttons that only a call has, in their order. @param {Devices} devices @param {HTMLElement} panel @param {CallActions} actions */
function callButtons(devices, panel, { leaveCall, togglePanel, togglePictureInPicture }) {
	const toggleScreen = async () => (devices.screen ? devices.stopScreen() : devices.shareScreen());
	return {
		screen: iconButton("screen", "Share your screen", { onclick: asyncHandler(toggleScreen) }),
		people: iconButton("people", "People and the link", { "aria-controls": panel.id, onclick: togglePanel }),
		pictureInPicture: iconButton("pip", "Picture in picture", {
			class: "round rare",
			onclick: asyncHandler(togglePictureInPicture),
		}),
		fullScreen: iconButton("full", "Full screen", { class: "round rare", onclick: asyncHandler(toggleFullScreen) }),
		settings: settingsButton(devices),
		leave: iconButton("hang-up", "Leave the call", { class: "round danger", onclick: leaveCall }),
	};
}

async function toggleFullScreen() {
	if (document.fullscreenElement) await document.exitFullscreen();
	else await document.documentElement.requestFullscreen();
}
