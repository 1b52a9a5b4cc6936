/**
 * Another participant of a call, over one `Connection` after another, and what a page shows of it.
 * @import {CandidatePair, Path, PeerState, Quality, Signal, Timer} from "./types"
 * @import {Connection} from "./connection.js"
 */

import { selectedPair } from "./connection.js";
import { Evidence } from "./gathering.js";
import { CONNECT_TIMEOUT, LOST_DELAY, RENEW, STEPS, nextStep } from "./recovery.js";

const POLITENESS = 1.25; // times as long, who gives way in negotiation waits: mostly, one side acts, and the other answers
const SPEAKING_LEVEL = 0.02; // a level of audio, from 0 to 1
const SPEAKING_TIME = 600; // ms: bridges the gap between two words
const UNSEEN_SECONDS = 8; // in which frames come and none is shown, until the connection is made anew
const GOODBYE = JSON.stringify({ goodbye: true }); // over the data channel, before a connection is closed for good

/** Quality from the counters of getStats(). */
class QualityMeter {
	/** Of video, that have come as a whole. */
	frames = 0;
	#at = NaN; // the first reading has no difference
	#bytes = 0;
	#received = 0;
	#lost = 0;

	/** @param {RTCStatsReport} report @returns {Quality} */
	read(report) {
		let [bytes, received, lost, roundTrip, framesDecoded, resolution, at] = [0, 0, 0, 0, 0, "", 0];
		report.forEach((stat) => {
			if (stat.type === "candidate-pair" && stat.nominated) roundTrip = stat.currentRoundTripTime ?? roundTrip;
			if (stat.type !== "inbound-rtp") return;
			at = stat.timestamp;
			bytes += stat.bytesReceived;
			received += stat.packetsReceived;
			lost += stat.packetsLost;
			if (stat.kind !== "video") return;
			framesDecoded = stat.framesDecoded ?? 0;
			this.frames = stat.framesReceived ?? framesDecoded;
			if (stat.frameWidth) resolution = `${stat.frameWidth}×${stat.frameHeight}`;
		});
		const seconds = (at - this.#at) / 1000;
		const newlyLost = Math.max(0, lost - this.#lost);
		const loss = newlyLost / (newlyLost + received - this.#received || 1);
		const bitrate = (8 * (bytes - this.#bytes)) / seconds;
		[this.#at, this.#bytes, this.#received, this.#lost] = [at, bytes, received, lost];
		if (!(seconds > 0)) return { ...UNKNOWN, framesDecoded, resolution };
		return { level: level(loss, roundTrip), roundTrip, loss, bitrate, framesDecoded, resolution };
	}
}

/** @param {number} loss @param {number} roundTrip in s: conversation is unaffected up to 0.15 s one way (ITU-T G.114) */
const level = (loss, roundTrip) => {
	if (loss > 0.05 || roundTrip > 0.6) return "poor";
	return loss > 0.02 || roundTrip > 0.3 ? "fair" : "good";
};

/** @type {Quality} */
const UNKNOWN = { level: "unknown", roundTrip: 0, loss: 0, bitrate: 0, framesDecoded: 0, resolution: "" };

/** Another participant. Its fields are for a page, its methods for the mesh. */
export class Peer {
	/** @type {PeerState} */
	state = "connecting";
	/** The received tracks: another object with each connection. */
	stream = new MediaStream();
	quality = UNKNOWN;
	speaking = false;
	/** True if it sends us no video, since its line does not take it. */
	isPaused = false;
	audioLevel = 0;
	/** The time of the last change of the state, by `performance.now()`. */
	changedAt = performance.now();
	/** How often it was connected anew since its frames were not shown. */
	unseenTimes = 0;
	evidence = new Evidence();

	/** @type {Connection | null} */
	#connection = null;
	#callbacks;
	#patience;
	#step = -1; // of STEPS, the last that was taken since it was connected
	#attempts = 0;
	#hasMoved = false; // our network has changed, and nothing was done about it yet
	/** @type {CandidatePair | null} */
	#selected = null;
	#played = { audio: true, video: true };
	#meter = new QualityMeter();
	#frames = 0; // of the meter, a second ago
	#unseen = 0; // seconds with frames, and without a picture
	#audioTimestamp = 0; // of the last frame of audio
	#spokeAt = -Infinity;
	/** @type {Timer | undefined} */
	#timer;

	/**
	 * @param {string} userId @param {boolean} isPolite
	 * @param {{newConnection: (isRelayOnly: boolean) => Connection, isReachable: () => boolean, lost: () => void, changed: () => void}} callbacks
	 */
	constructor(userId, isPolite, callbacks) {
		this.userId = userId;
		this.#patience = isPolite ? POLITENESS : 1;
		this.#callbacks = callbacks;
		this.#setTimer(CONNECT_TIMEOUT); // in case it does not connect to us, as a newly joined peer should
	}

	get connection() {
		return this.#connection;
	}

	/** The safety code of the connection. */
	get safety() {
		return this.#connection?.safety ?? null;
	}

	/** What is known of the way to the peer: plain data, of this moment. @returns {Path} */
	get path() {
		const isRelayOnly = this.#connection?.isRelayOnly ?? false;
		const action = STEPS[this.#step]?.action ?? null;
		return { selected: this.#selected, isRelayOnly, action, attempts: this.#attempts };
	}

	/** Begin a new connection. */
	connect(isRelayOnly = false) {
		this.#connection?.close();
		const connection = (this.#connection = this.#callbacks.newConnection(isRelayOnly));
		connection.pc.addEventListener("track", () => this.play(this.#played));
		connection.pc.onconnectionstatechange = () => this.#handleConnectionState(connection.pc.connectionState);
		this.evidence.follow(connection, this.#callbacks.changed);
		this.stream = connection.stream;
		this.#meter = new QualityMeter();
		this.quality = UNKNOWN;
		this.#selected = null;
		this.isPaused = false;
		this.#setTimer(STEPS[this.#step]?.wait ?? CONNECT_TIMEOUT);
		this.#setState(this.state === "connected" ? "reconnecting" : this.state);
		return connection;
	}

	/** @param {Signal} signal */
	handleSignal(signal) {
		const { instance, to, description } = signal;
		const mine = this.#connection;
		const isNew = instance !== mine?.remote;
		const isOffer = description?.type === "offer";
		if (to && to !== mine?.instance) return; // for a connection that is closed
		if (isNew && !description) return; // candidates of a connection that is closed, or whose description is lost
		const takesStep = isOffer ? !mine?.isAsking : signal.restart; // for both
		if (takesStep && mine?.isNegotiated && this.state !== "connected") this.#count();
		const connection = !mine || (isOffer && ((isNew && mine.remote) || mine.mustYield)) ? this.connect() : mine;
		connection.remote = instance;
		this.evidence.hear(signal);
		connection.handleSignal(signal).catch(() => {}); // as a failed negotiation
	}

	/** Whether its sound and its picture are played. Else they are silent and black, wherever they are shown. @param {{audio: boolean, video: boolean}} played */
	play(played) {
		this.#played = played;
		for (const track of this.stream.getTracks()) track.enabled = track.kind === "audio" ? played.audio : played.video;
	}

	/** @param {boolean} isPaused */
	setPaused(isPaused) {
		this.isPaused = isPaused;
		this.#callbacks.changed();
	}

	/** Repair what broke while no signal could reach the peer. */
	handleReachable() {
		const isWaiting = this.#timer && this.state !== "failed"; // an attempt is running
		if (!this.#hasMoved && (this.state === "connected" || isWaiting)) return;
		this.#step = -1;
		this.#attempts = 0;
		this.#recover();
	}

	/** Look for a way from where we are now, at once or when the peer is reachable. */
	handleNetworkChange() {
		this.#hasMoved = true;
		if (this.#callbacks.isReachable()) this.handleReachable();
	}

	/**
	 * Follow the picture, once a second: frames of which none is shown for long are a fault of the browser, and another
	 * connection has mended it. What that does not mend is left as it is, until a frame is shown again.
	 * @param {boolean} isShown whether one was shown meanwhile, or nobody looks
	 */
	followPicture(isShown) {
		const { frames } = this.#meter;
		if (isShown) this.#unseen = 0;
		else if (this.state === "connected" && frames > this.#frames) this.#unseen++;
		this.#frames = frames;
		if (this.#unseen < UNSEEN_SECONDS || !this.#callbacks.isReachable()) return;
		this.#unseen = -Infinity;
		this.unseenTimes++;
		this.#take(RENEW);
	}

	/** Connect again at once, as a user asks for. */
	restart() {
		this.#attempts = 0;
		this.evidence.forget();
		this.#setState("reconnecting");
		this.#take(RENEW);
	}

	/** Close, and tell the other side directly: the server may be away. */
	close() {
		clearTimeout(this.#timer);
		if (this.#connection?.channel.readyState === "open") this.#connection.channel.send(GOODBYE);
		this.#connection?.close();
	}

	// --- recovery ---

	/** @param {RTCPeerConnectionState} state */
	#handleConnectionState(state) {
		if (state === "connected") return this.#handleConnected();
		if (state !== "disconnected" && state !== "failed") return;
		if (this.state === "connected") {
			this.#setState("reconnecting");
			this.#callbacks.lost();
		}
		if (this.#step >= 0) return; // what is being done for it has its time
		if (state === "failed") this.#recover();
		else this.#setTimer(LOST_DELAY);
	}

	#handleConnected() {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#step = -1;
		this.#attempts = 0;
		this.evidence.forget();
		this.#setState("connected");
	}

	/** Take the next step. */
	#recover() {
		if (!this.#callbacks.isReachable()) return; // `handleReachable` is called when it is
		this.#take(this.#nextStep);
	}

	get #nextStep() {
		const { isNegotiated = false, hasTurn = false, isRelayOnly = false } = this.#connection ?? {};
		return nextStep(this.#step, { isNegotiated, mayRelay: hasTurn && !isRelayOnly });
	}

	/** @param {number} step */
	#take(step) {
		this.#hasMoved = false;
		this.#count(step);
		const { action } = STEPS[step];
		if (action === "restart") this.#connection?.restart();
		else this.connect(action === "relay");
	}

	/** Give this step its time. */
	#count(step = this.#nextStep) {
		const { wait, hasFailed } = STEPS[step];
		this.#step = step;
		this.#attempts++;
		this.#setTimer(wait);
		if (hasFailed) this.#setState("failed");
		else if (this.state === "failed") this.#setState("reconnecting");
	}

	/** Take the next step after this time, if it is not connected then. @param {number} ms */
	#setTimer(ms) {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			this.#timer = undefined;
			if (this.#connection?.pc.connectionState === "connected") this.#handleConnected();
			else this.#recover();
		}, ms * this.#patience);
	}

	/** @param {Peer["state"]} state */
	#setState(state) {
		if (state !== this.state) this.changedAt = performance.now();
		this.state = state;
		if (state !== "connected") this.quality = UNKNOWN;
		this.#callbacks.changed();
	}

	// --- measurements ---

	async measure() {
		const connection = this.#connection;
		const report = await connection?.pc.getStats();
		const isCurrent = connection === this.#connection && this.state === "connected";
		if (!report || !isCurrent) return undefined;
		this.quality = this.#meter.read(report);
		this.#selected = selectedPair(report);
		return report;
	}

	/** Read the audio level. True if the peer has begun or ceased to speak. */
	measureAudio() {
		const receiver = this.#connection?.pc.getReceivers().find(({ track }) => track.kind === "audio");
		const [source] = receiver?.getSynchronizationSources() ?? [];
		const isNew = source && source.timestamp !== this.#audioTimestamp; // else nothing was received: the peer is muted
		this.#audioTimestamp = source?.timestamp ?? 0;
		this.audioLevel = isNew ? (source.audioLevel ?? 0) : 0;
		if (this.audioLevel > SPEAKING_LEVEL) this.#spokeAt = performance.now();
		const before = this.speaking;
		this.speaking = performance.now() - this.#spokeAt < SPEAKING_TIME;
		return this.speaking !== before;
	}
}
