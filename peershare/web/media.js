// Camera, microphone, screen and speaker of this browser: the choices, the open tracks, and the faults.

import { stored } from "./dom.js";

/** @import {Choice, DeviceEvents, Kind, Target, Timer, Track, DeviceName} from "./types" */

const choices = stored("localStorage", "peershare.devices");
export const NO_WEBRTC =
	"This browser can't make video calls (WebRTC is missing or turned off). Use a current Firefox, Chrome, Edge or Safari.";

/** Messages for faults, by the name of the browser's error or of ours. @type {Record<string, (device: string) => string>} */
const FAULTS = {
	Insecure: () =>
		"This page was opened over http, where browsers give no access to camera or microphone. Open it over https, or on this machine as localhost.",
	NoWebRTC: () => NO_WEBRTC,
	NotAllowedError: (device) =>
		`You have not allowed the ${device}. Click the camera sign in the address bar, or open the page's settings there, and allow it.`,
	NotFoundError: (device) => `There is no ${device} here. Plug one in, and it will be found.`,
	NotReadableError: (device) =>
		`Another program is using the ${device}, or the system keeps it. Close that program and try again.`,
};
const DEVICE = /** @type {const} */ ({ audio: "microphone", video: "camera" });
const LISTED_KIND = /** @type {const} */ ({ camera: "videoinput", microphone: "audioinput", speaker: "audiooutput" });
const START_TIMEOUT = 2_000; // ms, in which an allowed context starts
const MAX_REMEMBERED = 8; // earlier choices of each kind: people have a few places with devices of their own

/** @param {string} fault @param {string} device */
export const faultMessage = (fault, device) => FAULTS[fault]?.(device) ?? `The ${device} does not start (${fault}).`;

/** True if this browser has WebRTC. */
export const canCall = () => typeof RTCPeerConnection === "function";

/** True if the sound can be sent to a speaker of one's choice. */
export const canChooseSpeaker = () => "setSinkId" in HTMLMediaElement.prototype;

export const canShareScreen = () => !!navigator.mediaDevices?.getDisplayMedia;

/**
 * The devices. `change` is fired whenever a track, a choice or a fault has changed; `note` when something happened to the
 * devices outside of this page.
 *
 * `audio` and `camera` are live tracks or null. A muted microphone stays open; a camera that is turned off is closed,
 * so that its light goes out.
 */
export class Devices extends /** @type {new () => Target<DeviceEvents>} */ (EventTarget) {
	/** @type {Track} */ audio = null;
	/** @type {Track} */ camera = null;
	/** @type {Track} */ screen = null;
	/** Names of faults. @type {Record<Kind, string>} */
	faults = { audio: "", video: "" };
	/** @type {MediaDeviceInfo[]} */
	list = [];
	/** @type {Choice} */
	choice = { camera: "", microphone: "", speaker: "", muted: false, cameraOff: false, before: {} };
	/** Referenced, or browsers stop firing their events. @type {PermissionStatus[]} */
	#permissions = [];
	#isOpen = false; // from `open` to `close`
	#isStarting = false;
	#isChoosingScreen = false; // for a screen
	#opening = 0;
	#closings = 0; // counts calls of `close`

	constructor() {
		super();
		Object.assign(this.choice, choices.get());
		navigator.mediaDevices?.addEventListener("devicechange", () => this.#handleDeviceChange());
		for (const kind of /** @type {const} */ (["audio", "video"])) this.#watchPermission(kind);
	}

	/** The video track to send: the screen, where one is shared. */
	get video() {
		return this.screen ?? this.camera;
	}

	/** True if the microphone is muted, by choice or since it gives nothing. Before `open`, by choice. */
	get isMuted() {
		return this.choice.muted || (this.#isSettled && !isLive(this.audio));
	}

	/** The same for the camera. */
	get isCameraOff() {
		return this.choice.cameraOff || (this.#isSettled && !isLive(this.camera));
	}

	get #isSettled() {
		return this.#isOpen && !this.#isStarting;
	}

	/** The media that are sent, as the others are told. */
	get state() {
		return {
			audio: isLive(this.audio) && !this.choice.muted,
			video: this.screen !== null || isLive(this.camera),
			screen: this.screen !== null,
		};
	}

	/** The faults, in sentences. */
	get faultMessages() {
		const { audio, video } = this.faults;
		if (audio && audio === video) return [faultMessage(audio, "camera or microphone")];
		return [video && faultMessage(video, DEVICE.video), audio && faultMessage(audio, DEVICE.audio)].filter(Boolean);
	}

	/** Open the devices that are wanted and not open. This never fails: the reasons are in `faults`. */
	async open() {
		const opening = ++this.#opening;
		const wanted = /** @type {Kind[]} */ (["audio", "video"]).filter((kind) => this.#wants(kind));
		this.#isOpen = this.#isStarting = true;
		const tracks = wanted.length ? await this.#requestTracks(wanted) : [];
		if (opening !== this.#opening) {
			tracks.forEach((track) => track.stop()); // asked again, or closed, meanwhile
			return;
		}
		this.#isStarting = false;
		for (const track of tracks) this.#useTrack(track);
		this.#changed();
		await this.#listDevices(); // only now do the devices have names
	}

	/** Close all devices. */
	close() {
		this.#opening += 1;
		this.#closings += 1;
		this.#isOpen = this.#isStarting = false;
		for (const track of [this.audio, this.camera, this.screen]) track?.stop();
		this.audio = this.camera = this.screen = null;
		this.#changed();
	}

	/** @param {boolean} muted */
	async mute(muted) {
		this.#saveChoice({ muted });
		if (this.audio) this.audio.enabled = !muted;
		this.#changed();
		if (muted || !this.#isOpen || isLive(this.audio)) return;
		// Some systems never unmute a track that they have muted for a phone call: a new one may work.
		this.#release("audio");
		await this.open();
	}

	/** @param {boolean} off */
	async turnCameraOff(off) {
		this.#saveChoice({ cameraOff: off });
		if (off || !isLive(this.camera)) this.#release("video");
		if (off) this.faults.video = "";
		this.#changed();
		if (this.#isOpen && (!off || this.#isStarting)) await this.open();
	}

	/** Use another device, or the system's own for "". @param {DeviceName} device @param {string} id */
	async use(device, id) {
		const { [device]: last, before } = this.choice;
		const others = [last, ...(before[device] ?? [])].filter((other) => other !== id);
		this.#saveChoice({ [device]: id, before: { ...before, [device]: [...new Set(others)].slice(0, MAX_REMEMBERED) } });
		// Some systems open a camera only once: the old one is closed first.
		if (device === "camera") this.#release("video");
		if (device === "microphone") this.#release("audio");
		this.#changed();
		if (this.#isOpen) await this.open();
	}

	/** The last chosen device that is connected; "" is the system's default, which always is. @param {DeviceName} device */
	preferred(device) {
		const { [device]: last, before } = this.choice;
		const there = this.#listed(device).map(({ deviceId }) => deviceId);
		if (!there.some(Boolean)) return last; // browsers do not list them before a permission is given
		return [last, ...(before[device] ?? [])].find((id) => id === "" || there.includes(id)) ?? "";
	}

	/** @param {DeviceName} device */
	#listed(device) {
		return this.list.filter(({ kind }) => kind === LISTED_KIND[device]);
	}

	/** Let the user choose a screen to share. If the call ends meanwhile, nothing is captured. */
	async shareScreen() {
		if (this.#isChoosingScreen) return;
		this.#isChoosingScreen = true;
		const closings = this.#closings;
		try {
			const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
			const [track] = stream.getVideoTracks();
			if (closings === this.#closings) this.#showScreen(track);
			else track.stop();
		} catch (error) {
			if (!isNamed(error, "NotAllowedError") && !isNamed(error, "AbortError")) throw error; // else "cancel" was clicked
		} finally {
			this.#isChoosingScreen = false;
		}
	}

	/** @param {MediaStreamTrack} track */
	#showScreen(track) {
		this.screen = track;
		const end = () => {
			if (track !== this.screen) return; // it was stopped here
			this.stopScreen();
			this.#note("Your screen is not shared any more.");
		};
		track.addEventListener("ended", end, { once: true });
		this.#changed();
	}

	stopScreen() {
		this.screen?.stop();
		this.screen = null;
		this.#changed();
	}

	/** Play this element's sound where it was chosen. @param {HTMLMediaElement} element */
	async route(element) {
		const speaker = this.preferred("speaker");
		if (!canChooseSpeaker() || element.sinkId === speaker) return;
		await element.setSinkId(speaker).catch(() => element.setSinkId("").catch(() => {})); // rather than no sound
	}

	/** @param {Kind} kind */
	#wants(kind) {
		return kind === "audio" ? !this.audio : !this.camera && !this.choice.cameraOff;
	}

	/**
	 * Both at once, so that the browser asks once; where that fails, each by itself.
	 * @param {Kind[]} kinds @param {boolean} [asChosen] @returns {Promise<MediaStreamTrack[]>}
	 */
	async #requestTracks(kinds, asChosen = true) {
		for (const kind of kinds) this.faults[kind] = "";
		if (!navigator.mediaDevices?.getUserMedia) {
			for (const kind of kinds) this.faults[kind] = isSecureContext ? "NoWebRTC" : "Insecure";
			return [];
		}
		try {
			const constraints = Object.fromEntries(kinds.map((kind) => [kind, this.#constraints(kind, asChosen)]));
			return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
		} catch (error) {
			if (kinds.length === 1) return this.#handleRequestError(kinds[0], error, asChosen);
			const found = [];
			for (const kind of kinds) found.push(...(await this.#requestTracks([kind])));
			return found;
		}
	}

	/** @param {Kind} kind @param {unknown} error @param {boolean} asChosen @returns {Promise<MediaStreamTrack[]>} */
	async #handleRequestError(kind, error, asChosen) {
		// The chosen device is not connected. It stays chosen: it may come back.
		if (isNamed(error, "OverconstrainedError") && asChosen) return this.#requestTracks([kind], false);
		this.faults[kind] = error instanceof Error ? error.name : String(error);
		return [];
	}

	/** @param {Kind} kind @param {boolean} [asChosen] @returns {MediaTrackConstraints} */
	#constraints(kind, asChosen = true) {
		const id = asChosen && this.preferred(DEVICE[kind]);
		const device = id ? { deviceId: { exact: id } } : {};
		if (kind === "audio") return { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
		return { ...device, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { max: 30 } };
	}

	/** @param {Kind} kind */
	#current(kind) {
		return kind === "audio" ? this.audio : this.camera;
	}

	/** @param {Kind} kind @param {Track} track */
	#replace(kind, track) {
		this.#current(kind)?.stop();
		if (kind === "audio") this.audio = track;
		else this.camera = track;
	}

	/** @param {Kind} kind */
	#release(kind) {
		this.#replace(kind, null);
	}

	/** @param {MediaStreamTrack} track */
	#useTrack(track) {
		const kind = /** @type {Kind} */ (track.kind);
		this.#replace(kind, track);
		track.addEventListener("ended", () => this.#handleEnded(kind, track), { once: true });
		for (const news of ["mute", "unmute"]) track.addEventListener(news, () => this.#handleSystemMute(kind, track));
		if (kind === "audio") track.enabled = !this.choice.muted;
		else track.contentHint = "motion";
		if (track.muted) this.#handleSystemMute(kind, track);
	}

	/** The system has muted it, as phones do for a call, or a switch on the device; or no longer does. @param {Kind} kind @param {MediaStreamTrack} track */
	#handleSystemMute(kind, track) {
		if (track !== this.#current(kind)) return; // it was replaced
		const { muted } = track;
		if (kind === "audio")
			this.#note(muted ? "Your system has muted the microphone: nobody hears you." : "Your microphone is on again.");
		else this.#note(muted ? "Your system has stopped the camera: nobody sees you." : "Your camera is on again.");
		this.#changed();
	}

	/** It was unplugged, or the permission was taken back. @param {Kind} kind @param {MediaStreamTrack} track */
	async #handleEnded(kind, track) {
		if (track !== this.#current(kind)) return; // it was stopped here
		this.#release(kind);
		this.#changed();
		if (!this.#isOpen) return;
		await this.open();
		if (this.faults[kind] === "NotAllowedError") return; // a fault, which is shown
		const next = this.#current(kind);
		this.#note(`“${track.label}” was disconnected.${next ? ` The ${DEVICE[kind]} is now “${next.label}”.` : ""}`);
	}

	async #handleDeviceChange() {
		const before = { id: this.preferred("speaker"), name: this.#nameOf("speaker") };
		await this.#listDevices();
		if (this.preferred("speaker") !== before.id) {
			const name = this.#nameOf("speaker");
			this.#note(
				name
					? `Sound comes from “${name}” again.`
					: `“${before.name}” was disconnected: sound comes from another device.`,
			);
		}
		if (!this.#isOpen || this.#isStarting) return;
		// A missing one may be connected now.
		if (this.faults.audio || this.faults.video) await this.open();
		for (const kind of /** @type {const} */ (["audio", "video"])) await this.#followDevice(kind);
	}

	/** The label of the preferred device; "" for the system's default. @param {DeviceName} device */
	#nameOf(device) {
		const id = this.preferred(device);
		return id && (this.#listed(device).find(({ deviceId }) => deviceId === id)?.label ?? "");
	}

	/** Handle a chosen device that is back, and a used one that is gone without an event. @param {Kind} kind */
	async #followDevice(kind) {
		const track = this.#current(kind);
		const { deviceId, groupId } = track?.getSettings() ?? {};
		if (!track || !deviceId) return;
		const listed = this.#listed(DEVICE[kind]);
		const isKnown = listed.every((device) => device.deviceId); // else browsers hide them
		if (isKnown && !listed.some((device) => device.deviceId === deviceId)) return this.#handleEnded(kind, track);
		const wanted = this.preferred(DEVICE[kind]);
		// The system's default is another one now.
		const own = listed.find((device) => device.deviceId === "default");
		const hasMoved = deviceId === "default" && own?.groupId !== groupId;
		if (wanted ? wanted !== deviceId : hasMoved) await this.#change(kind, track);
	}

	/** Replace the track; if the other device does not start, keep it. @param {Kind} kind @param {MediaStreamTrack} before */
	async #change(kind, before) {
		const constraints = { [kind]: this.#constraints(kind) };
		const stream = await navigator.mediaDevices.getUserMedia(constraints).catch(() => null);
		const [track] = stream?.getTracks() ?? [];
		if (!track) return;
		if (before !== this.#current(kind)) return track.stop(); // it was replaced meanwhile
		this.#useTrack(track);
		this.#note(`The ${DEVICE[kind]} is now “${track.label}”.`);
		this.#changed();
	}

	/** @param {Kind} kind */
	async #watchPermission(kind) {
		const name = /** @type {PermissionName} */ (DEVICE[kind]);
		const status = await navigator.permissions?.query({ name }).catch(() => null); // not known everywhere
		if (!status) return;
		this.#permissions.push(status);
		status.addEventListener("change", () => this.#handlePermission(kind, status.state));
	}

	/** @param {Kind} kind @param {PermissionState} state */
	async #handlePermission(kind, state) {
		if (!this.#isOpen) return;
		if (state === "granted" && this.faults[kind] === "NotAllowedError") await this.open();
		if (state !== "denied" || !this.#current(kind)) return;
		this.#release(kind); // not every browser does it
		this.faults[kind] = "NotAllowedError";
		this.#changed();
	}

	async #listDevices() {
		this.list = (await navigator.mediaDevices?.enumerateDevices().catch(() => null)) ?? this.list;
		this.#changed();
	}

	/** @param {Partial<Choice>} choice */
	#saveChoice(choice) {
		Object.assign(this.choice, choice);
		choices.set(this.choice);
	}

	#changed() {
		this.dispatchEvent(new Event("change"));
	}

	/** @param {string} text */
	#note(text) {
		this.dispatchEvent(new CustomEvent("note", { detail: { text, kind: "" } }));
	}
}

/** True if the track gives anything: systems mute tracks, for a phone call for instance. @param {Track} track */
const isLive = (track) => track !== null && !track.muted;

/** @param {unknown} error @param {string} name */
const isNamed = (error, name) => error instanceof Error && error.name === name;

/** The level of a microphone, from 0 to 1, twenty times a second. */
export class LevelMeter {
	/** @type {AudioContext | null} */ #context = null;
	/** @type {MediaStreamAudioSourceNode | null} */ #source = null;
	/** @type {Track} */ #track = null;
	/** @type {Timer | undefined} */ #timer;
	#showScreen;

	/** @param {(level: number) => void} show */
	constructor(show) {
		this.#showScreen = show;
	}

	/** @param {Track} track */
	setTrack(track) {
		if (track === this.#track) return;
		this.stop();
		this.#track = track;
		if (!track) return;
		const context = (this.#context = new AudioContext());
		const analyser = context.createAnalyser();
		analyser.fftSize = 1024;
		this.#source = context.createMediaStreamSource(new MediaStream([track]));
		this.#source.connect(analyser);
		const samples = new Float32Array(analyser.fftSize);
		this.#timer = setInterval(() => {
			analyser.getFloatTimeDomainData(samples);
			const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
			// From -60 dB, a quiet room, to -10 dB, somebody who shouts.
			this.#showScreen(Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50)));
		}, 50);
	}

	stop() {
		clearInterval(this.#timer);
		this.#source?.disconnect();
		this.#context?.close();
		this.#context = this.#source = this.#track = null;
		this.#showScreen(0);
	}
}

/**
 * Two notes, repeated, for a ring in either direction.
 *
 * Browsers play no sound before the user has touched the page, and a reload resets that. `isSilent` says so; `change` is
 * fired when it changes. The first touch unlocks the context for good: so there is one, which is suspended while unused.
 */
export class Ringtone extends EventTarget {
	isSilent = false;
	/** @type {AudioContext | null} */ #context = null;
	/** @type {Timer | undefined} */ #startTimer;
	/** @type {Timer | undefined} */ #timer;
	#playNotes = () => {};

	constructor() {
		super();
		// Browsers differ in which of these unlock sound.
		for (const touch of ["pointerdown", "pointerup", "touchend", "keydown"])
			addEventListener(touch, () => (this.isSilent || !this.#context) && this.prepare(), {
				capture: true,
				passive: true,
			});
	}

	/** Find out whether sound would play, without playing any. */
	prepare() {
		const context = (this.#context ??= this.#newContext());
		context.resume().catch(() => {});
		clearTimeout(this.#startTimer);
		if (navigator.userActivation?.hasBeenActive) this.#setSilent(false);
		else this.#startTimer = setTimeout(() => this.#setSilent(context.state !== "running"), START_TIMEOUT);
	}

	#newContext() {
		const context = new AudioContext();
		context.addEventListener("statechange", () => {
			if (context.state !== "running") return;
			this.#setSilent(false);
			if (this.#timer) this.#playNotes();
			else context.suspend();
		});
		return context;
	}

	/** @param {boolean} isSilent */
	#setSilent(isSilent) {
		clearTimeout(this.#startTimer);
		if (isSilent === this.isSilent) return;
		this.isSilent = isSilent;
		this.dispatchEvent(new Event("change"));
	}

	/** Ring until `stop()`. `loud` for an incoming ring. @param {{loud: boolean}} options */
	start({ loud }) {
		if (this.#timer) return;
		const notes = loud ? [659, 880] : [440];
		this.#playNotes = () => {
			if (loud) navigator.vibrate?.([200, 100, 200]);
			const context = this.#context;
			if (context?.state !== "running") return; // else all notes would play at once when it starts
			notes.forEach((pitch, at) => tone(context, pitch, context.currentTime + at * 0.25, loud ? 0.2 : 0.05));
		};
		this.#timer = setInterval(this.#playNotes, loud ? 2000 : 3000);
		this.prepare(); // it plays as soon as the context runs
	}

	stop() {
		clearInterval(this.#timer);
		this.#timer = undefined;
		this.#context?.suspend();
	}
}

/** @param {AudioContext} context @param {number} pitch @param {number} at @param {number} loudness */
function tone(context, pitch, at, loudness) {
	const volume = context.createGain();
	volume.gain.setValueAtTime(0, at);
	volume.gain.linearRampToValueAtTime(loudness, at + 0.02);
	volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.9);
	const oscillator = context.createOscillator();
	oscillator.frequency.value = pitch;
	oscillator.connect(volume).connect(context.destination);
	oscillator.start(at);
	oscillator.stop(at + 1);
}
