/**
 * Another participant of a call, over one `Connection` after another, and what a page shows of it.
 * @import {CandidatePair, Path, PeerState, Quality, Signal, Timer} from "./types"
 * @import {Connection} from "./connection.js"
 */

import { selectedPair } from "./connection.js";
import { Evidence } from "./gathering.js";

const DISCONNECTED_DELAY = 3_000; // ms, after which a disconnected connection is restarted
const CONNECT_TIMEOUT = 10_000; // ms for a connection to be made, before it is made anew
const QUICK_ATTEMPTS = 3; // after these in vain, the connection has failed; it is tried on at SLOW_INTERVAL
const SLOW_INTERVAL = 30_000; // ms
const SPEAKING_LEVEL = 0.02; // a level of audio, from 0 to 1
const SPEAKING_TIME = 600; // ms: bridges the gap between two words
const GOODBYE = JSON.stringify({ goodbye: true }); // over the data channel, before a connection is closed for good

/** Quality from the counters of getStats(). */
class QualityMeter {
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
	audioLevel = 0;
	/** The time of the last change of the state, by `performance.now()`. */
	changedAt = performance.now();
	evidence = new Evidence();

	/** @type {Connection | null} */
	#connection = null;
	#callbacks;
	#attempts = 0;
	/** @type {CandidatePair | null} */
	#selected = null;
	#meter = new QualityMeter();
	#audioTimestamp = 0; // of the last frame of audio
	#spokeAt = -Infinity;
	/** @type {Timer | undefined} */
	#timer;

	/**
	 * @param {string} userId
	 * @param {{newConnection: () => Connection, isReachable: () => boolean, changed: () => void}} callbacks
	 */
	constructor(userId, callbacks) {
		this.userId = userId;
		this.#callbacks = callbacks;
		this.#setTimer(CONNECT_TIMEOUT, () => this.#reconnect()); // in case it does not connect to us, as a newly joined peer should
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
		return { selected: this.#selected, attempts: this.#attempts };
	}

	/** Begin a new connection. */
	connect() {
		this.#connection?.close();
		const connection = (this.#connection = this.#callbacks.newConnection());
		connection.pc.onconnectionstatechange = () => this.#handleConnectionState(connection.pc.connectionState);
		this.evidence.follow(connection, this.#callbacks.changed);
		this.stream = connection.stream;
		this.#meter = new QualityMeter();
		this.quality = UNKNOWN;
		this.#selected = null;
		this.#setTimer(CONNECT_TIMEOUT, () => this.#reconnect());
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
		const connection = !mine || (isOffer && ((isNew && mine.remote) || mine.mustYield)) ? this.connect() : mine;
		connection.remote = instance;
		this.evidence.hear(signal);
		connection.handleSignal(signal).catch(() => {}); // as a failed negotiation
	}

	/** Repair what broke while no signal could reach the peer. */
	handleReachable() {
		const isWaiting = this.#timer && this.state !== "failed"; // an attempt is running
		if (this.state !== "connected" && !isWaiting) this.#repair();
	}

	/** Connect again at once, as a user asks for. */
	restart() {
		this.#attempts = 0;
		this.evidence.forget();
		this.#setState("reconnecting");
		this.connect();
	}

	/** Close, and tell the other side directly: the server may be away. */
	close() {
		clearTimeout(this.#timer);
		if (this.#connection?.channel.readyState === "open") this.#connection.channel.send(GOODBYE);
		this.#connection?.close();
	}

	// --- repair ---

	/** @param {RTCPeerConnectionState} state */
	#handleConnectionState(state) {
		if (state === "connected") this.#handleConnected();
		if (state === "disconnected") this.#setTimer(DISCONNECTED_DELAY, () => this.#repair());
		if (state === "failed") this.#repair();
		if ((state === "disconnected" || state === "failed") && this.state === "connected") this.#setState("reconnecting");
	}

	#handleConnected() {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#attempts = 0;
		this.evidence.forget();
		this.#setState("connected");
	}

	#repair() {
		if (!this.#callbacks.isReachable()) return; // `handleReachable` is called when it is
		if (!this.#connection?.isNegotiated) return this.#reconnect();
		this.#connection.pc.restartIce();
		this.#setTimer(CONNECT_TIMEOUT, () => this.#reconnect());
	}

	#reconnect() {
		if (!this.#callbacks.isReachable()) return;
		this.#attempts++;
		this.connect();
		if (this.#attempts < QUICK_ATTEMPTS) return;
		this.#setTimer(SLOW_INTERVAL, () => this.#reconnect());
		this.#setState("failed");
	}

	/** @param {number} ms @param {() => void} then */
	#setTimer(ms, then) {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			this.#timer = undefined;
			then();
		}, ms);
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
		if (!report || !isCurrent) return;
		this.quality = this.#meter.read(report);
		this.#selected = selectedPair(report);
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
