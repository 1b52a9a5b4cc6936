// The screen before joining: see yourself, choose your devices, start muted or without a camera.

import { deviceButtons } from "./controls.js";
import { h, setText } from "./dom.js";
import { logo, nameField } from "./landing.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { devicePickers } from "./settings.js";
import { accountButton } from "./sign-in.js";

/** @import {Devices, PrejoinOptions, Track} from "./types" */

/** @param {PrejoinOptions} options */
export function prejoinScreen(options) {
	const { devices, title, notice, message } = options;
	const account = accountButton();
	const preview = cameraPreview(devices);
	const form = new JoinForm(options);

	devices.addEventListener("change", preview.update);
	devices.open();
	preview.update();
	const heading = h("h1", { tabindex: "-1", dir: "auto" }, title); // has the focus, so that a key still held joins nothing
	form.element.prepend(heading);
	return {
		element: h(
			"main",
			{ class: "prejoin" },
			h("header", { class: "bar" }, logo(), account.element),
			message && h("p", { class: "notice bad", role: "status" }, message),
			notice,
			h("div", { class: "columns" }, preview.element, form.element),
		),
		focus: form.nameInput.value ? heading : form.nameInput,
		update() {
			account.update();
			form.update();
		},
		close() {
			devices.removeEventListener("change", preview.update);
			form.close();
		},
	};
}

/** One's own picture, with the buttons for microphone and camera. @param {Devices} devices */
function cameraPreview(devices) {
	const video = h("video", {
		class: "mirrored",
		muted: true,
		autoplay: true,
		playsInline: true,
		"aria-label": "Your camera's picture",
	});
	const text = h("p", { class: "no-picture" });
	const buttons = deviceButtons(devices);
	const controls = h("div", { class: "controls" }, buttons.microphone, buttons.camera);
	const element = h("div", { class: "preview" }, video, text, controls);
	// The shape of the picture as it is sent: a phone's camera is upright.
	video.addEventListener("resize", () =>
		element.style.setProperty("--ratio", String(video.videoWidth / video.videoHeight || 16 / 9)),
	);
	/** @type {Track} */
	let shown = null;
	return {
		element,
		update() {
			buttons.update();
			if (shown !== devices.camera) {
				shown = devices.camera;
				video.srcObject = shown && new MediaStream([shown]);
			}
			setText(text, shown ? "" : reasonForNoPicture(devices));
		},
	};
}

/** @param {Devices} devices */
function reasonForNoPicture({ choice, faults }) {
	if (choice.cameraOff) return "Your camera is off";
	return faults.video ? "No camera" : "Your camera starts…";
}

/** Name, devices, and the buttons that join. */
class JoinForm {
	#options;
	#name;
	#pickers;
	#error = h("p", { class: "error", role: "alert" });
	#joinGroup;
	#joinCall;

	/** @param {PrejoinOptions} options */
	constructor(options) {
		const { devices, about, name, isNew, hasCall, isFull } = options;
		this.#options = options;
		this.#name = nameField(name);
		this.#pickers = devicePickers(devices, canCall() ? "You can still join, to listen and watch." : "");
		const startCall = isNew ? "Make it and start a call" : "Join and start a call";
		this.#joinCall = h(
			"button",
			{ disabled: !canCall(), class: hasCall ? "primary" : "secondary" },
			hasCall ? "Join the call" : startCall,
		);
		this.#joinGroup = h(
			"button",
			{ class: hasCall ? "secondary" : "primary" },
			isNew ? "Make the group" : "Join the group",
		);
		const choices = hasCall ? [this.#joinCall, this.#joinGroup] : [this.#joinGroup, !isFull && this.#joinCall];
		const fault = `${NO_WEBRTC} You can still see who is in the group.`;
		this.element = h(
			"form",
			{
				class: "card",
				onsubmit: (/** @type {SubmitEvent} */ event) => this.#submit(event),
				noValidate: true,
			},
			h("p", { class: "about" }, about),
			!canCall() && h("p", { class: "notice bad", role: "status" }, fault),
			this.#name.element,
			this.#pickers.element,
			this.#error,
			h("div", { class: "choices" }, ...choices),
		);
		this.nameInput = this.#name.input;
	}

	update() {
		this.#name.update();
	}

	close() {
		this.#pickers.close();
	}

	/** @param {SubmitEvent} event */
	async #submit(event) {
		event.preventDefault();
		const username = this.#name.check();
		if (!username) return;
		this.#disable(true);
		setText(this.#error, "");
		try {
			await this.#options.join(username, { call: event.submitter === this.#joinCall });
		} catch (error) {
			if (!this.element.isConnected) return; // the user has left this screen
			this.#options.devices.open();
			setText(this.#error, error instanceof Error ? error.message : String(error));
			this.#disable(false);
			event.submitter?.focus();
		}
	}

	/** @param {boolean} isJoining */
	#disable(isJoining) {
		this.#joinGroup.disabled = isJoining;
		this.#joinCall.disabled = isJoining || !canCall();
	}
}
