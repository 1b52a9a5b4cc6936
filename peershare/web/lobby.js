// Before joining: see yourself, choose your devices, start muted or without a camera.

import { deviceButtons } from "./controls.js";
import { h, say } from "./dom.js";
import { field, logo } from "./landing.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { devicePickers } from "./settings.js";

/** @import {LobbyOptions, Track} from "./types" */

/** @param {LobbyOptions} options */
export function lobby({ devices, title, about, name, isNew, hasCall, isFull, notice, join }) {
	const video = h("video", {
		class: "mirrored",
		muted: true,
		autoplay: true,
		playsInline: true,
		"aria-label": "Your camera's picture",
	});
	const nobody = h("p", { class: "nobody" });
	const controls = h("div", { class: "controls" });
	const preview = h("div", { class: "preview" }, video, nobody, controls);
	// As it is sent: a phone's camera is upright.
	const reshape = () => preview.style.setProperty("--ratio", String(video.videoWidth / video.videoHeight || 16 / 9));
	video.addEventListener("resize", reshape);
	const heading = h("h1", { tabindex: "-1", dir: "auto" }, title); // has the focus: no key that is still held shall join
	const buttons = deviceButtons(devices);
	controls.append(buttons.mic, buttons.camera);
	const pickers = devicePickers(devices, canCall() ? "You can join all the same, to listen and watch." : "");
	const who = field("Your name", { id: "name", value: name, maxLength: 50, autocomplete: "name", dir: "auto" });
	const wrong = h("p", { class: "wrong", role: "alert" });
	const joinCall = h(
		"button",
		{ disabled: !canCall() },
		hasCall ? "Join the call" : isNew ? "Make it and start a call" : "Join and start a call",
	);
	const joinGroup = h("button", {}, isNew ? "Make the group" : "Join the group");
	joinCall.className = hasCall ? "primary" : "secondary";
	joinGroup.className = hasCall ? "secondary" : "primary";
	const choices = hasCall ? [joinCall, joinGroup] : isFull ? [joinGroup] : [joinGroup, joinCall];

	/** @type {Track} */
	let shown = null;

	function update() {
		buttons.update();
		if (shown !== devices.camera) {
			shown = devices.camera;
			video.srcObject = shown && new MediaStream([shown]);
		}
		say(
			nobody,
			shown
				? ""
				: devices.choice.cameraOff
					? "Your camera is off"
					: devices.faults.video
						? "No camera"
						: "Your camera starts…",
		);
	}

	/** @param {SubmitEvent} event */
	async function onSubmit(event) {
		event.preventDefault();
		const username = who.input.value.trim();
		who.complain(username ? "" : "Say who you are: the others will see it.");
		if (!username) return;
		const call = event.submitter === joinCall;
		for (const button of choices) button.disabled = true;
		say(wrong, "");
		try {
			await join(username, { call });
		} catch (error) {
			if (!video.isConnected) return; // it was thought better of
			devices.open();
			say(wrong, error instanceof Error ? error.message : String(error));
			for (const button of choices) button.disabled = button === joinCall && !canCall();
			event.submitter?.focus();
		}
	}

	devices.addEventListener("change", update);
	devices.open();
	update();
	const element = h(
		"main",
		{ class: "lobby" },
		h("header", { class: "bar" }, logo()),
		notice,
		h(
			"div",
			{ class: "two" },
			preview,
			h(
				"form",
				{ class: "card", onsubmit: onSubmit, noValidate: true },
				heading,
				h("p", { class: "about" }, about),
				!canCall() &&
					h("p", { class: "notice bad", role: "status" }, `${NO_WEBRTC} You can still see who is in the group.`),
				who.element,
				pickers.element,
				wrong,
				h("div", { class: "choices" }, ...choices),
			),
		),
	);
	return {
		element,
		focus: name ? heading : who.input,
		close() {
			devices.removeEventListener("change", update);
			pickers.close();
		},
	};
}
