// Camera, microphone, screen and speaker of this browser: what is chosen, what is on, and what is wrong with it.

import { kept } from "./dom.js";

/** @import {Choice, DeviceEvents, Kind, Target, Timer, Track, What} from "./types" */

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
const LISTED = /** @type {const} */ ({ camera: "videoinput", microphone: "audioinput", speaker: "audiooutput" });
const STARTS_WITHIN = 2_000; // ms: a context that may run, does
const REMEMBERED = 8; // devices of each kind that were chosen: a desk's, a bag's, a friend's

/** @param {string} fault @param {string} what */
const sentence = (fault, what) => FAULTS[fault]?.(what) ?? `The ${what} does not start (${fault}).`;

/** Whether this browser can hold a call at all. */
export const canCall = () => typeof RTCPeerConnection === "function";

/** Whether the sound can be sent to a speaker of one's choice. */
export const canChooseSpeaker = () => "setSinkId" in HTMLMediaElement.prototype;

export const canShareScreen = () => !!navigator.mediaDevices?.getDisplayMedia;

/**
 * The devices. `change` is fired whenever what is sent, chosen, or wrong has changed; `note` when something happened to
 * them that nobody did on this page.
 *
 * `audio` and `camera` are live tracks or null; a muted microphone stays open, a camera that is off is let go,
 * so that its light goes out.
 */
export class Devices extends /** @type {new () => Target<DeviceEvents>} */ (EventTarget) {
	/** @type {Track} */ audio = null;
	/** @type {Track} */ camera = null;
	/** @type {Track} */ screen = null;
	/** Names of what is wrong. @type {Record<Kind, string>} */
	faults = { audio: "", video: "" };
	/** @type {MediaDeviceInfo[]} */
	list = [];
	/** @type {Choice} */
	choice = { camera: "", microphone: "", speaker: "", muted: false, cameraOff: false, before: {} };
	/** Kept, or the browser forgets to tell. @type {PermissionStatus[]} */
	#permissions = [];
	#isWanted = false; // from `open` to `close`
	#isStarting = false;
	#isAsking = false; // for a screen
	#opening = 0;
	#stay = 0; // counts what `close` has ended

	constructor() {
		super();
		Object.assign(this.choice, choices.get());
		navigator.mediaDevices?.addEventListener("devicechange", () => this.#plugged());
		for (const kind of /** @type {const} */ (["audio", "video"])) this.#watchPermission(kind);
	}

	/** What the others are to see: the screen, where one is shared. */
	get video() {
		return this.screen ?? this.camera;
	}

	/** Whether one is not to be heard, or can't be. Before `open` that is what was chosen. */
	get isMuted() {
		return this.choice.muted || (this.#isSettled && !isHeard(this.audio));
	}

	/** The same for the picture. */
	get isCameraOff() {
		return this.choice.cameraOff || (this.#isSettled && !isHeard(this.camera));
	}

	get #isSettled() {
		return this.#isWanted && !this.#isStarting;
	}

	/** What the others are told. */
	get state() {
		return {
			audio: isHeard(this.audio) && !this.choice.muted,
			video: this.screen !== null || isHeard(this.camera),
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
		if (muted || !this.#isWanted || isHeard(this.audio)) return;
		// Some systems, once they have muted a track for a phone call, never let it be heard again: another may be.
		this.#release("audio");
		await this.open();
	}

	/** @param {boolean} off */
	async turnCameraOff(off) {
		this.#choose({ cameraOff: off });
		if (off || !isHeard(this.camera)) this.#release("video");
		if (off) this.faults.video = "";
		this.#changed();
		if (this.#isWanted && (!off || this.#isStarting)) await this.open();
	}

	/** Use another device, or the system's own for "". @param {What} what @param {string} id */
	async use(what, id) {
		const { [what]: last, before } = this.choice;
		const others = [last, ...(before[what] ?? [])].filter((other) => other !== id);
		this.#choose({ [what]: id, before: { ...before, [what]: [...new Set(others)].slice(0, REMEMBERED) } });
		// Some systems open a camera once only: the old one goes first.
		if (what === "camera") this.#release("video");
		if (what === "microphone") this.#release("audio");
		this.#changed();
		if (this.#isWanted) await this.open();
	}

	/** Of the devices that were chosen, the last that is there; "" is the system's own, which always is. @param {What} what */
	preferred(what) {
		const { [what]: last, before } = this.choice;
		const there = this.#listed(what).map(({ deviceId }) => deviceId);
		if (!there.some(Boolean)) return last; // browsers do not tell before a permission is given
		return [last, ...(before[what] ?? [])].find((id) => id === "" || there.includes(id)) ?? "";
	}

	/** @param {What} what */
	#listed(what) {
		return this.list.filter(({ kind }) => kind === LISTED[what]);
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
		const end = () => {
			if (track !== this.screen) return; // it was us
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
		await element.setSinkId(speaker).catch(() => element.setSinkId("").catch(() => {})); // better than silence
	}

	/** @param {Kind} kind */
	#wants(kind) {
		return kind === "audio" ? !this.audio : !this.camera && !this.choice.cameraOff;
	}

	/**
	 * Both at once, so that there is one question to answer; where that fails, each by itself.
	 * @param {Kind[]} kinds @param {boolean} [asChosen] @returns {Promise<MediaStreamTrack[]>}
	 */
	async #ask(kinds, asChosen = true) {
		for (const kind of kinds) this.faults[kind] = "";
		if (!navigator.mediaDevices?.getUserMedia) {
			for (const kind of kinds) this.faults[kind] = isSecureContext ? "NoWebRTC" : "Insecure";
			return [];
		}
		try {
			const constraints = Object.fromEntries(kinds.map((kind) => [kind, this.#constraints(kind, asChosen)]));
			return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
		} catch (error) {
			if (kinds.length === 1) return this.#fail(kinds[0], error, asChosen);
			const found = [];
			for (const kind of kinds) found.push(...(await this.#ask([kind])));
			return found;
		}
	}

	/** @param {Kind} kind @param {unknown} error @param {boolean} asChosen @returns {Promise<MediaStreamTrack[]>} */
	async #fail(kind, error, asChosen) {
		// What was chosen is not plugged in. It stays chosen: it may come back.
		if (isNamed(error, "OverconstrainedError") && asChosen) return this.#ask([kind], false);
		this.faults[kind] = error instanceof Error ? error.name : String(error);
		return [];
	}

	/** @param {Kind} kind @param {boolean} [asChosen] @returns {MediaTrackConstraints} */
	#constraints(kind, asChosen = true) {
		const id = asChosen && this.preferred(WHAT[kind]);
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
	#take(track) {
		const kind = /** @type {Kind} */ (track.kind);
		this.#replace(kind, track);
		track.addEventListener("ended", () => this.#lost(kind, track), { once: true });
		for (const news of ["mute", "unmute"]) track.addEventListener(news, () => this.#silenced(kind, track));
		if (kind === "audio") track.enabled = !this.choice.muted;
		else track.contentHint = "motion";
		if (track.muted) this.#silenced(kind, track);
	}

	/** The system has muted it, as phones do for a call, or a switch on the device; or no longer does. @param {Kind} kind @param {MediaStreamTrack} track */
	#silenced(kind, track) {
		if (track !== this.#current(kind)) return; // it was ours once
		const { muted } = track;
		if (kind === "audio")
			this.#note(muted ? "Your system has muted the microphone: nobody hears you." : "Your microphone is on again.");
		else this.#note(muted ? "Your system has stopped the camera: nobody sees you." : "Your camera is on again.");
		this.#changed();
	}

	/** It was unplugged, or the permission was taken back. @param {Kind} kind @param {MediaStreamTrack} track */
	async #lost(kind, track) {
		if (track !== this.#current(kind)) return; // it was us
		this.#release(kind);
		this.#changed();
		if (!this.#isWanted) return;
		await this.open();
		if (this.faults[kind] === "NotAllowedError") return; // which is told
		const next = this.#current(kind);
		this.#note(`“${track.label}” is gone.${next ? ` The ${WHAT[kind]} is now “${next.label}”.` : ""}`);
	}

	async #plugged() {
		const before = { id: this.preferred("speaker"), name: this.#nameOf("speaker") };
		await this.#lookAround();
		if (this.preferred("speaker") !== before.id) {
			const name = this.#nameOf("speaker");
			this.#note(name ? `Sound comes from “${name}” again.` : `“${before.name}” is gone: sound comes from elsewhere.`);
		}
		if (!this.#isWanted || this.#isStarting) return;
		// One that was missing may be there now.
		if (this.faults.audio || this.faults.video) await this.open();
		for (const kind of /** @type {const} */ (["audio", "video"])) await this.#followPlugs(kind);
	}

	/** The label of the device that is preferred; "" for the system's own. @param {What} what */
	#nameOf(what) {
		const id = this.preferred(what);
		return id && (this.#listed(what).find(({ deviceId }) => deviceId === id)?.label ?? "");
	}

	/** A device that was chosen may be back, and one that is used be gone without a word. @param {Kind} kind */
	async #followPlugs(kind) {
		const track = this.#current(kind);
		const { deviceId, groupId } = track?.getSettings() ?? {};
		if (!track || !deviceId) return;
		const listed = this.#listed(WHAT[kind]);
		const isKnown = listed.every((device) => device.deviceId); // else browsers do not tell
		if (isKnown && !listed.some((device) => device.deviceId === deviceId)) return this.#lost(kind, track);
		const wanted = this.preferred(WHAT[kind]);
		// The system's own is another one now.
		const own = listed.find((device) => device.deviceId === "default");
		const hasMoved = deviceId === "default" && own?.groupId !== groupId;
		if (wanted ? wanted !== deviceId : hasMoved) await this.#change(kind, track);
	}

	/** Where the other device does not start, all stays as it is. @param {Kind} kind @param {MediaStreamTrack} before */
	async #change(kind, before) {
		const asked = { [kind]: this.#constraints(kind) };
		const stream = await navigator.mediaDevices.getUserMedia(asked).catch(() => null);
		const [track] = stream?.getTracks() ?? [];
		if (!track) return;
		if (before !== this.#current(kind)) return track.stop(); // something else was faster
		this.#take(track);
		this.#note(`The ${WHAT[kind]} is now “${track.label}”.`);
		this.#changed();
	}

	/** @param {Kind} kind */
	async #watchPermission(kind) {
		const name = /** @type {PermissionName} */ (WHAT[kind]);
		const status = await navigator.permissions?.query({ name }).catch(() => null); // not known everywhere
		if (!status) return;
		this.#permissions.push(status);
		status.addEventListener("change", () => this.#permitted(kind, status.state));
	}

	/** @param {Kind} kind @param {PermissionState} state */
	async #permitted(kind, state) {
		if (!this.#isWanted) return;
		if (state === "granted" && this.faults[kind] === "NotAllowedError") await this.open();
		if (state !== "denied" || !this.#current(kind)) return;
		this.#release(kind); // not every browser does it
		this.faults[kind] = "NotAllowedError";
		this.#changed();
	}

	async #lookAround() {
		this.list = (await navigator.mediaDevices?.enumerateDevices().catch(() => null)) ?? this.list;
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

	/** @param {string} text */
	#note(text) {
		this.dispatchEvent(new CustomEvent("note", { detail: { text, kind: "" } }));
	}
}

/** Whether something comes from it: the system mutes a track for as long as it likes. @param {Track} track */
const isHeard = (track) => track !== null && !track.muted;

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

/**
 * Two notes, again and again, for who is rung and for who waits.
 *
 * Browsers play nothing before a page is touched, and after a reload it is not. `isSilent` says so; `change` is fired when
 * that is different. The first touch of anything unlocks it, once and for all: so there is one context, which sleeps.
 */
export class Bell extends EventTarget {
	isSilent = false;
	/** @type {AudioContext | null} */ #context = null;
	/** @type {Timer | undefined} */ #trial;
	/** @type {Timer | undefined} */ #timer;
	#chime = () => {};

	constructor() {
		super();
		// Browsers differ in which of them make a page trusted.
		for (const touch of ["pointerdown", "pointerup", "touchend", "keydown"])
			addEventListener(touch, () => (this.isSilent || !this.#context) && this.prepare(), {
				capture: true,
				passive: true,
			});
	}

	/** Find out whether it would be heard, without a sound. Whoever has touched the page is not told to. */
	prepare() {
		const context = (this.#context ??= this.#newContext());
		context.resume().catch(() => {});
		clearTimeout(this.#trial);
		if (navigator.userActivation?.hasBeenActive) this.#tell(false);
		else this.#trial = setTimeout(() => this.#tell(context.state !== "running"), STARTS_WITHIN);
	}

	#newContext() {
		const context = new AudioContext();
		context.addEventListener("statechange", () => {
			if (context.state !== "running") return;
			this.#tell(false);
			if (this.#timer) this.#chime();
			else context.suspend();
		});
		return context;
	}

	/** @param {boolean} isSilent */
	#tell(isSilent) {
		clearTimeout(this.#trial);
		if (isSilent === this.isSilent) return;
		this.isSilent = isSilent;
		this.dispatchEvent(new Event("change"));
	}

	/** Ring until told to stop. `loud` for who is rung. @param {{loud: boolean}} options */
	start({ loud }) {
		if (this.#timer) return;
		const notes = loud ? [659, 880] : [440];
		this.#chime = () => {
			if (loud) navigator.vibrate?.([200, 100, 200]);
			const context = this.#context;
			if (context?.state !== "running") return; // else all of it would be heard in the moment when it is
			notes.forEach((pitch, at) => tone(context, pitch, context.currentTime + at * 0.25, loud ? 0.2 : 0.05));
		};
		this.#timer = setInterval(this.#chime, loud ? 2000 : 3000);
		this.prepare(); // and as soon as it runs, it is heard
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
