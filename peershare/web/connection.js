/**
 * One RTCPeerConnection with another page, negotiated perfectly (W3C webrtc-pc, 10.7), but without rollbacks.
 *
 * It has a random name, its instance. Each signal carries it, and the instance of the receiver: so signals of a page
 * before its reload are told from those after.
 * @import {CandidatePair, Gathered, Kind, Signal, Track, Tracks} from "./types"
 */

import { exchangeOver } from "./safety-code.js";

/** @type {Kind[]} */
const KINDS = ["audio", "video"];
const CANDIDATES_DELAY = 50; // ms: candidates of this time share one signal

/**
 * In place of a missing track. Only transceivers made by addTrack() are matched with an incoming offer
 * (RFC 8829, 5.10): with those of addTransceiver(), two offers at once would make two lines for each kind.
 * @type {Partial<Record<Kind, MediaStreamTrack>>}
 */
const placeholders = {};

/** @param {Kind} kind */
const placeholder = (kind) => (placeholders[kind] ??= new RTCPeerConnection().addTransceiver(kind).receiver.track);

/** @param {Track} track */
export const isScreen = (track) =>
	track !== null && (["detail", "text"].includes(track.contentHint) || "displaySurface" in track.getSettings());

/** Prefer a sharp picture of a screen to a fluent one. @param {Track} track */
export const preferSharpness = (track) => {
	if (track && isScreen(track)) track.contentHint ||= "detail";
	return track;
};

/** The candidates that carry the media. @param {RTCStatsReport} report @returns {CandidatePair | null} */
export const selectedPair = (report) => {
	const stats = [...report.values()];
	const id = stats.find(({ selectedCandidatePairId }) => selectedCandidatePairId)?.selectedCandidatePairId;
	const pair = report.get(id) ?? stats.find(({ type, selected }) => type === "candidate-pair" && selected); // Firefox
	const [local, remote] = [report.get(pair?.localCandidateId), report.get(pair?.remoteCandidateId)];
	if (!local || !remote) return null;
	const kind = (/** @type {any} */ { candidateType: type, protocol, relayProtocol }) =>
		relayProtocol ? { type, protocol, relayProtocol } : { type, protocol };
	return { local: kind(local), remote: kind(remote) };
};

/** One RTCPeerConnection. */
export class Connection {
	instance = crypto.getRandomValues(new Uint32Array(2)).join("-"); // randomUUID() is for secure pages alone
	/** @type {string | null} the instance of the other side */
	remote = null;
	stream = new MediaStream();
	/** Told to the other side with each signal. @type {Gathered} */
	gathered = {};
	pc;
	channel;
	safety;
	/** @type {Map<Kind, RTCRtpSender>} */
	senders = new Map();
	/** True if the other side was asked for a restart, and has not offered it yet. */
	isAsking = false;
	#isPolite;
	#send;
	#isOffering = false;
	#isSettingAnswer = false;
	/** @type {RTCIceCandidateInit[]} */
	#candidates = [];

	/**
	 * @param {RTCConfiguration} configuration @param {Tracks} tracks
	 * @param {boolean} isPolite whether to give way when both sides offer at once @param {(signal: Signal) => void} send
	 * @param {() => void} safetyChanged
	 */
	constructor(configuration, tracks, isPolite, send, safetyChanged) {
		this.#isPolite = isPolite;
		this.#send = send;
		const pc = (this.pc = new RTCPeerConnection(configuration));
		// A failed negotiation shows as a connection that is not made in time.
		pc.onnegotiationneeded = () => this.#offer().catch(() => {});
		pc.onicecandidate = ({ candidate }) => this.#queueCandidate(candidate?.toJSON() ?? this.#endOfCandidates);
		pc.ontrack = ({ track }) => this.stream.addTrack(track);
		this.channel = pc.createDataChannel("peershare", { negotiated: true, id: 0 });
		this.safety = exchangeOver(pc, this.channel, safetyChanged);
		for (const kind of KINDS) this.#add(kind, tracks[kind]);
	}

	/** @param {Kind} kind @param {Track} track */
	#add(kind, track) {
		const sender = this.pc.addTrack(track ?? placeholder(kind));
		this.senders.set(kind, sender);
		if (!track) sender.replaceTrack(null);
	}

	/** @param {Kind} kind @param {Track} track */
	async setTrack(kind, track) {
		try {
			await this.senders.get(kind)?.replaceTrack(track);
		} catch (error) {
			if (!this.isClosed) throw error; // else the peer has just left
		}
	}

	/** Take other servers, from the next gathering on. @param {RTCConfiguration} configuration */
	configure(configuration) {
		const { iceTransportPolicy } = this.isRelayOnly ? this.pc.getConfiguration() : configuration;
		this.pc.setConfiguration({ ...configuration, iceTransportPolicy });
	}

	get isRelayOnly() {
		return this.pc.getConfiguration().iceTransportPolicy === "relay";
	}

	get hasTurn() {
		const urls = (this.pc.getConfiguration().iceServers ?? []).flatMap(({ urls }) => urls);
		return urls.some((url) => /^turns?:/.test(url));
	}

	get isNegotiated() {
		return this.pc.currentRemoteDescription !== null;
	}

	// --- perfect negotiation ---

	/** True if an offer of ours is unanswered. An offer from the other side collides then. */
	get #collides() {
		return this.#isOffering || (this.pc.signalingState !== "stable" && !this.#isSettingAnswer);
	}

	/**
	 * True if a new connection has to answer an offer. This one could roll back its own offer, but Chromium sometimes
	 * gathers no candidates after that.
	 */
	get mustYield() {
		return this.#isPolite && !this.isNegotiated && this.#collides;
	}

	/**
	 * Look for other ways, by an ICE restart. Who gives way asks the other side to offer it, so that two such offers never
	 * collide: after a rollback, Chromium decodes what comes, but the tracks that it has received get no more frames.
	 */
	restart() {
		if (!this.#isPolite) return this.pc.restartIce();
		this.isAsking = true;
		this.#signal({ restart: true });
	}

	async #offer() {
		this.#isOffering = true;
		try {
			await this.pc.setLocalDescription();
			if (this.pc.signalingState === "have-local-offer") this.#sendDescription(); // else theirs has replaced it
		} finally {
			this.#isOffering = false;
		}
	}

	#sendDescription() {
		if (this.pc.localDescription) this.#signal({ description: this.pc.localDescription.toJSON() });
	}

	/** Not after `close`: the other side would take it for a new connection. @param {Partial<Signal>} content */
	#signal(content) {
		const { instance, remote: to, gathered } = this;
		if (!this.isClosed) this.#send({ instance, to, gathered, ...content });
	}

	/** An empty candidate, of the credentials in use (W3C webrtc-pc, 4.8.1; RFC 8838, section 13). */
	get #endOfCandidates() {
		const [, usernameFragment] = this.pc.localDescription?.sdp.match(/^a=ice-ufrag:(\S+)/m) ?? [];
		return { candidate: "", usernameFragment };
	}

	/** @param {RTCIceCandidateInit} candidate */
	#queueCandidate(candidate) {
		if (this.#candidates.push(candidate) > 1) return;
		setTimeout(() => this.#signal({ candidates: this.#candidates.splice(0) }), CANDIDATES_DELAY);
	}

	/** @param {Signal} signal of the other side's connection to this one */
	async handleSignal({ to, description, candidates = [], restart }) {
		if (restart && !this.#isPolite && !this.#collides) this.pc.restartIce(); // else an offer is on its way
		if (description?.type === "offer") await this.#handleOffer(description, !to);
		if (description?.type === "answer") await this.#handleAnswer(description);
		for (const candidate of candidates) this.#addCandidate(candidate);
	}

	/** @param {RTCSessionDescriptionInit} offer @param {boolean} isFirst whether it was made before ours was received */
	async #handleOffer(offer, isFirst) {
		const goesFirst = this.#collides && !this.#isPolite;
		if (!goesFirst) {
			this.isAsking = false;
			await this.pc.setRemoteDescription(offer);
			await this.pc.setLocalDescription();
		}
		// Our own, if that goes first, may have been sent before the other side listened: then it is sent again.
		if (!goesFirst || isFirst) this.#sendDescription();
	}

	/** @param {RTCSessionDescriptionInit} answer */
	async #handleAnswer(answer) {
		if (this.pc.signalingState !== "have-local-offer") return; // to an offer that was sent twice
		this.#isSettingAnswer = true;
		try {
			await this.pc.setRemoteDescription(answer);
		} finally {
			this.#isSettingAnswer = false;
		}
	}

	/** @param {RTCIceCandidateInit} candidate */
	#addCandidate(candidate) {
		// Candidates of an offer that was ignored or rolled back are refused, as they should be.
		this.pc.addIceCandidate(candidate).catch(() => {});
	}

	get isClosed() {
		return this.pc.signalingState === "closed";
	}

	close() {
		this.pc.onconnectionstatechange = this.channel.onmessage = this.channel.onopen = null;
		this.pc.close();
	}
}
