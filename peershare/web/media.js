// Camera, microphone, screen and speaker of this browser: what is chosen, what is on, and what is wrong with it.

import { kept } from "./dom.js";

/** @import {Choice, Kind, Timer, Track} from "./types" */

const choices = kept("localStorage", "peershare.devices");
export const NO_WEBRTC =
	"This browser can't make video calls (WebRTC is missing or turned off). Use a current Firefox, Chrome, Edge or Safari.";

/** What is wrong, by the name of the browser's error or of ours. @type {Record<string, (what: string) => string>} */
const FAULTS = {
	Insecure: () =>
		"This page was opened over http, where browsers hand out neither camera nor microphone. Open it over https, or on this machine as localhost.",
	NoWebRTC: () => NO_WEBRTC,
	NotAllowedError: (what) =>
		`You have not allowed the ${what}. Click the camera sign in the address bar, or open the page's settings there, and allow it.`,
	NotFoundError: (what) => `There is no ${what} here. Plug one in, and it will be found.`,
	NotReadableError: (what) =>
		`Another program is using the ${what}, or the system keeps it. Close that program and try again.`,
};
const WHAT = /** @type {const} */ ({ audio: "microphone", video: "camera" });

/** @param {string} fault @param {string} what */
const sentence = (fault, what) => FAULTS[fault]?.(what) ?? `The ${what} does not start (${fault}).`;

/** Whether this browser can hold a call at all. */
export const canCall = () => typeof RTCPeerConnection === "function";

/** Whether the sound can be sent to a speaker of one's choice. */
export const canChooseSpeaker = () => "setSinkId" in HTMLMediaElement.prototype;

export const canShareScreen = () => !!navigator.mediaDevices?.getDisplayMedia;

/**
 * The devices. `change` is fired whenever what is sent, chosen, or wrong has changed.
 *
 * `audio` and `camera` are live tracks or null; a muted microphone stays open, a camera that is off is let go,
 * so that its light goes out.
 */
export class Devices extends EventTarget {
	/** @type {Track} */ audio = null;
	/** @type {Track} */ camera = null;
	/** @type {Track} */ screen = null;
	/** Names of what is wrong. @type {Record<Kind, string>} */
	faults = { audio: "", video: "" };
	/** @type {MediaDeviceInfo[]} */
	list = [];
	/** @type {Choice} */
	choice = { camera: "", microphone: "", speaker: "", muted: false, cameraOff: false };
	#isWanted = false; // from `open` to `close`
	#isStarting = false;
	#isAsking = false; // for a screen
	#opening = 0;
	#stay = 0; // counts what `close` has ended

	constructor() {
		super();
		Object.assign(this.choice, choices.get());
		navigator.mediaDevices?.addEventListener("devicechange", () => this.#plugged());
	}

	/** What the others are to see: the screen, where one is shared. */
	get video() {
		return this.screen ?? this.camera;
	}

	/** Whether one is not to be heard, or can't be. Before `open` that is what was chosen. */
	get isMuted() {
		return this.choice.muted || (this.#isSettled && this.audio === null);
	}

	/** The same for the picture. */
	get isCameraOff() {
		return this.choice.cameraOff || (this.#isSettled && this.camera === null);
	}

	get #isSettled() {
		return this.#isWanted && !this.#isStarting;
	}

	/** What the others are told. */
	get state() {
		return {
			audio: this.audio !== null && !this.choice.muted,
			video: this.video !== null,
			screen: this.screen !== null,
		};
	}

	/** What is wrong, in sentences. */
	get wrong() {
		const { audio, video } = this.faults;
		if (audio && audio === video) return [sentence(audio, "camera or microphone")];
		return [video && sentence(video, WHAT.video), audio && sentence(audio, WHAT.audio)].filter(Boolean);
	}

	/** Open what is wanted and not open. What can't be opened says why in `faults`; this never fails. */
	async open() {
		const opening = ++this.#opening;
		const wanted = /** @type {Kind[]} */ (["audio", "video"]).filter((kind) => this.#wants(kind));
		this.#isWanted = this.#isStarting = true;
		const tracks = wanted.length ? await this.#ask(wanted) : [];
		if (opening !== this.#opening) {
			tracks.forEach((track) => track.stop()); // asked again, or closed, meanwhile
			return;
		}
		this.#isStarting = false;
		for (const track of tracks) this.#take(track);
		this.#changed();
		await this.#lookAround(); // only now do the devices tell their names
	}

	/** Let everything go. */
	close() {
		this.#opening += 1;
		this.#stay += 1;
		this.#isWanted = this.#isStarting = false;
		for (const track of [this.audio, this.camera, this.screen]) track?.stop();
		this.audio = this.camera = this.screen = null;
		this.#changed();
	}

	/** @param {boolean} muted */
	async mute(muted) {
		this.#choose({ muted });
		if (this.audio) this.audio.enabled = !muted;
		this.#changed();
		if (!muted && !this.audio && this.#isWanted) await this.open();
	}

	/** @param {boolean} off */
	async turnCameraOff(off) {
		this.#choose({ cameraOff: off });
		if (off) {
			this.camera?.stop();
			this.camera = null;
			this.faults.video = "";
		}
		this.#changed();
		if (this.#isWanted && (!off || this.#isStarting)) await this.open();
	}

	/**
	 * Use another device, or the default one for "".
	 * @param {"camera" | "microphone" | "speaker"} what @param {string} id
	 */
	async use(what, id) {
		this.#choose({ [what]: id });
		// Some systems open a camera once only: the old one goes first.
		if (what === "camera") {
			this.camera?.stop();
			this.camera = null;
		} else if (what === "microphone") {
			this.audio?.stop();
			this.audio = null;
		}
		this.#changed();
		if (this.#isWanted) await this.open();
	}

	/** Ask which screen to share. Where the call ends meanwhile, nothing is captured. */
	async shareScreen() {
		if (this.#isAsking) return;
		this.#isAsking = true;
		const stay = this.#stay;
		try {
			const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
			const [track] = stream.getVideoTracks();
			if (stay === this.#stay) this.#show(track);
			else track.stop();
		} catch (error) {
			if (!isNamed(error, "NotAllowedError") && !isNamed(error, "AbortError")) throw error; // else "cancel" was clicked
		} finally {
			this.#isAsking = false;
		}
	}

	/** @param {MediaStreamTrack} track */
	#show(track) {
		this.screen = track;
		track.addEventListener("ended", () => track === this.screen && this.stopScreen(), { once: true });
		this.#changed();
	}

	stopScreen() {
		this.screen?.stop();
		this.screen = null;
		this.#changed();
	}

	/** Play this element's sound where it was chosen. @param {HTMLMediaElement} element */
	async route(element) {
		if (!canChooseSpeaker() || element.sinkId === this.choice.speaker) return;
		// A speaker that is gone: the system's own is better than silence.
		await element.setSinkId(this.choice.speaker).catch(() => element.setSinkId("").catch(() => {}));
	}

	/** @param {Kind} kind */
	#wants(kind) {
		return kind === "audio" ? !this.audio : !this.camera && !this.choice.cameraOff;
	}

	/**
	 * Both at once, so that there is one question to answer; where that fails, each by itself.
	 * @param {Kind[]} kinds @returns {Promise<MediaStreamTrack[]>}
	 */
	async #ask(kinds) {
		for (const kind of kinds) this.faults[kind] = "";
		if (!navigator.mediaDevices?.getUserMedia) {
			for (const kind of kinds) this.faults[kind] = isSecureContext ? "NoWebRTC" : "Insecure";
			return [];
		}
		try {
			const constraints = Object.fromEntries(kinds.map((kind) => [kind, this.#constraints(kind)]));
			return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
		} catch (error) {
			if (kinds.length === 1) return this.#fail(kinds[0], error);
			const found = [];
			for (const kind of kinds) found.push(...(await this.#ask([kind])));
			return found;
		}
	}

	/** @param {Kind} kind @param {unknown} error @returns {Promise<MediaStreamTrack[]>} */
	async #fail(kind, error) {
		const what = WHAT[kind];
		if (isNamed(error, "OverconstrainedError") && this.choice[what]) {
			this.#choose({ [what]: "" }); // what was chosen last week is not plugged in today
			return this.#ask([kind]);
		}
		this.faults[kind] = error instanceof Error ? error.name : String(error);
		return [];
	}

	/** @param {Kind} kind @returns {MediaTrackConstraints} */
	#constraints(kind) {
		const id = this.choice[WHAT[kind]];
		const device = id ? { deviceId: { exact: id } } : {};
		if (kind === "audio") return { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
		return { ...device, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { max: 30 } };
	}

	/** @param {MediaStreamTrack} track */
	#take(track) {
		// It was unplugged, or the permission was taken back.
		track.addEventListener("ended", () => this.#lost(track), { once: true });
		if (track.kind === "audio") {
			this.audio?.stop();
			this.audio = track;
			track.enabled = !this.choice.muted;
		} else {
			this.camera?.stop();
			this.camera = track;
			track.contentHint = "motion";
		}
	}

	/** @param {MediaStreamTrack} track */
	#lost(track) {
		if (track === this.audio) this.audio = null;
		else if (track === this.camera) this.camera = null;
		else return; // it was us
		if (this.#isWanted) this.open();
	}

	async #plugged() {
		await this.#lookAround();
		// One that was missing may be there now.
		if (this.#isWanted && (this.faults.audio || this.faults.video)) await this.open();
	}

	async #lookAround() {
		this.list = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
		this.#changed();
	}

	/** @param {Partial<Choice>} choice */
	#choose(choice) {
		Object.assign(this.choice, choice);
		choices.set(this.choice);
	}

	#changed() {
		this.dispatchEvent(new Event("change"));
	}
}

/** @param {unknown} error @param {string} name */
const isNamed = (error, name) => error instanceof Error && error.name === name;

/** How loud a microphone is, from 0 to 1, some twenty times a second. */
export class LevelMeter {
	/** @type {AudioContext | null} */ #context = null;
	/** @type {MediaStreamAudioSourceNode | null} */ #source = null;
	/** @type {Track} */ #track = null;
	/** @type {Timer | undefined} */ #timer;
	#show;

	/** @param {(level: number) => void} show */
	constructor(show) {
		this.#show = show;
	}

	/** @param {Track} track */
	listen(track) {
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
			this.#show(Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50)));
		}, 50);
	}

	stop() {
		clearInterval(this.#timer);
		this.#source?.disconnect();
		this.#context?.close();
		this.#context = this.#source = this.#track = null;
		this.#show(0);
	}
}

/** Two notes, again and again, for who is rung and for who waits. */
export class Bell {
	/** @type {AudioContext | null} */ #context = null;
	/** @type {Timer | undefined} */ #timer;

	/** Ring until told to stop. `loud` for who is rung. @param {{loud: boolean}} options */
	start({ loud }) {
		if (this.#timer) return;
		const context = (this.#context = new AudioContext());
		const notes = loud ? [659, 880] : [440];
		const chime = () => {
			notes.forEach((pitch, at) => tone(context, pitch, context.currentTime + at * 0.25, loud ? 0.2 : 0.05));
			if (loud) navigator.vibrate?.([200, 100, 200]);
		};
		chime();
		this.#timer = setInterval(chime, loud ? 2000 : 3000);
	}

	stop() {
		clearInterval(this.#timer);
		this.#timer = undefined;
		this.#context?.close();
		this.#context = null;
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
