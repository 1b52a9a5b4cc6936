/**
 * A call among browsers: one RTCPeerConnection with each other participant.
 *
 * `Connection` is one RTCPeerConnection, negotiated perfectly (W3C webrtc-pc, 10.7). `Peer` is one other participant,
 * over one connection after another, and what a page shows of it. `Mesh` holds the peers and the tracks that all get.
 *
 * A connection has a random name, its instance. Each signal carries it, and the instance of the receiver: so signals of a
 * page before its reload are told from those after.
 * @import {IceServers, Kind, MeshEvents, PeerShare, PeerState, Quality, Signal, Target, Timer, Track, Tracks} from "./types"
 */

/** @type {Kind[]} */
const KINDS = ["audio", "video"];
const CANDIDATES_DELAY = 50; // ms: candidates of this time share one signal
const DISCONNECTED_DELAY = 3_000; // ms, after which a disconnected connection is restarted
const CONNECT_TIMEOUT = 10_000; // ms for a connection to be made, before it is made anew
const QUICK_ATTEMPTS = 3; // after these in vain, the connection has failed; it is tried on at SLOW_INTERVAL
const SLOW_INTERVAL = 30_000; // ms
const STATS_INTERVAL = 1_000; // ms
const LEVELS_INTERVAL = 200; // ms
const SPEAKING_LEVEL = 0.02; // a level of audio, from 0 to 1
const SPEAKING_TIME = 600; // ms: bridges the gap between two words
// In bit/s. The upload is shared by all: each peer gets its own stream.
const CAMERA = { perPeer: 1_500_000, total: 3_000_000 };
const SCREEN = { perPeer: 2_500_000, total: 6_000_000 };
const GOODBYE = JSON.stringify({ goodbye: true }); // over the data channel, before a connection is closed for good

/**
 * In place of a missing track. Only transceivers made by addTrack() are matched with an incoming offer
 * (RFC 8829, 5.10): with those of addTransceiver(), two offers at once would make two lines for each kind.
 * @type {Partial<Record<Kind, MediaStreamTrack>>}
 */
const placeholders = {};

/** @param {Kind} kind */
const placeholder = (kind) => (placeholders[kind] ??= new RTCPeerConnection().addTransceiver(kind).receiver.track);

/** @param {Track} track */
const isScreen = (track) =>
	track !== null && (["detail", "text"].includes(track.contentHint) || "displaySurface" in track.getSettings());

/** Prefer a sharp picture of a screen to a fluent one. @param {Track} track */
const preferSharpness = (track) => {
	if (track && isScreen(track)) track.contentHint ||= "detail";
	return track;
};

/** One RTCPeerConnection. */
class Connection {
	instance = crypto.getRandomValues(new Uint32Array(2)).join("-"); // randomUUID() is for secure pages alone
	/** @type {string | null} the instance of the other side */
	remote = null;
	stream = new MediaStream();
	pc;
	channel;
	/** @type {Map<Kind, RTCRtpSender>} */
	#senders = new Map();
	#limiting = Promise.resolve();
	#isPolite;
	#send;
	#isOffering = false;
	#isSettingAnswer = false;
	/** @type {RTCIceCandidateInit[]} */
	#candidates = [];

	/**
	 * @param {RTCConfiguration} configuration @param {Tracks} tracks
	 * @param {boolean} isPolite whether to give way when both sides offer at once @param {(signal: Signal) => void} send
	 */
	constructor(configuration, tracks, isPolite, send) {
		this.#isPolite = isPolite;
		this.#send = send;
		const pc = (this.pc = new RTCPeerConnection(configuration));
		// A failed negotiation shows as a connection that is not made in time.
		pc.onnegotiationneeded = () => this.#offer().catch(() => {});
		pc.onicecandidate = ({ candidate }) => candidate && this.#queueCandidate(candidate.toJSON());
		pc.ontrack = ({ track }) => this.stream.addTrack(track);
		this.channel = pc.createDataChannel("peershare", { negotiated: true, id: 0 });
		for (const kind of KINDS) this.#add(kind, tracks[kind]);
	}

	/** @param {Kind} kind @param {Track} track */
	#add(kind, track) {
		const sender = this.pc.addTrack(track ?? placeholder(kind));
		this.#senders.set(kind, sender);
		if (!track) sender.replaceTrack(null);
	}

	/** @param {Kind} kind @param {Track} track */
	async setTrack(kind, track) {
		try {
			await this.#senders.get(kind)?.replaceTrack(track);
		} catch (error) {
			if (!this.isClosed) throw error; // else the peer has just left
		}
	}

	get isNegotiated() {
		return this.pc.currentRemoteDescription !== null;
	}

	/** Share the upload among this many; one change after the other, as setParameters() needs it. @param {number} peers */
	limitBitrate(peers) {
		this.#limiting = this.#limiting.then(() => this.#limit(peers)).catch(() => {}); // not every browser can
	}

	/** @param {number} peers */
	async #limit(peers) {
		const sender = /** @type {RTCRtpSender} */ (this.#senders.get("video"));
		const parameters = sender.getParameters();
		if (!parameters.encodings?.length) return;
		const { perPeer, total } = isScreen(sender.track) ? SCREEN : CAMERA;
		parameters.encodings[0].maxBitrate = Math.min(perPeer, total / peers);
		await sender.setParameters(parameters);
	}

	// --- perfect negotiation ---

	/** True if an offer of ours is unanswered. An offer from the other side collides then. */
	get #collides() {
		return this.#isOffering || (this.pc.signalingState !== "stable" && !this.#isSettingAnswer);
	}

	/**
	 * True if a new connection has to answer an offer. This one could roll back its own offer, but Chromium sometimes
	 * gathers no candidates after that: so a rollback is done only where media flow already.
	 */
	get mustYield() {
		return this.#isPolite && !this.isNegotiated && this.#collides;
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
		if (!this.isClosed) this.#send({ instance: this.instance, to: this.remote, ...content });
	}

	/** @param {RTCIceCandidateInit} candidate */
	#queueCandidate(candidate) {
		if (this.#candidates.push(candidate) > 1) return;
		setTimeout(() => this.#signal({ candidates: this.#candidates.splice(0) }), CANDIDATES_DELAY);
	}

	/** @param {Signal} signal of the other side's connection to this one */
	async handleSignal({ to, description, candidates = [] }) {
		if (description?.type === "offer") await this.#handleOffer(description, !to);
		if (description?.type === "answer") await this.#handleAnswer(description);
		for (const candidate of candidates) this.#addCandidate(candidate);
	}

	/** @param {RTCSessionDescriptionInit} offer @param {boolean} isFirst whether it was made before ours was received */
	async #handleOffer(offer, isFirst) {
		const goesFirst = this.#collides && !this.#isPolite;
		if (!goesFirst) {
			await this.pc.setRemoteDescription(offer); // rolls back our own, where they collide
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

	/** @type {Connection | null} */
	#connection = null;
	#callbacks;
	#attempts = 0;
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

	/** Begin a new connection. */
	connect() {
		this.#connection?.close();
		const connection = (this.#connection = this.#callbacks.newConnection());
		connection.pc.onconnectionstatechange = () => this.#handleConnectionState(connection.pc.connectionState);
		this.stream = connection.stream;
		this.#meter = new QualityMeter();
		this.quality = UNKNOWN;
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
		this.state = "reconnecting";
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
		this.state = state;
		if (state !== "connected") this.quality = UNKNOWN;
		this.#callbacks.changed();
	}

	// --- measurements ---

	async measure() {
		const connection = this.#connection;
		const report = await connection?.pc.getStats();
		const isCurrent = connection === this.#connection && this.state === "connected";
		if (report && isCurrent) this.quality = this.#meter.read(report);
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

/** Connections to all others in the call. */
export class Mesh extends /** @type {new () => Target<MeshEvents>} */ (EventTarget) {
	/** @type {Map<string, Peer>} */
	peers = new Map();
	#client;
	#configuration;
	#tracks;
	#lifetime = new AbortController();
	/** @type {Timer[]} */
	#intervals;

	/**
	 * Follow the client until `close()`.
	 * @param {PeerShare} client @param {{iceServers?: RTCIceServer[], iceTransportPolicy?: RTCIceTransportPolicy, tracks?: Partial<Tracks>}} options
	 */
	constructor(client, { iceServers = [], iceTransportPolicy = "all", tracks: { audio = null, video = null } = {} }) {
		super();
		this.#client = client;
		this.#configuration = /** @type {RTCConfiguration} */ ({
			iceServers,
			iceTransportPolicy,
			bundlePolicy: "max-bundle",
		});
		this.#tracks = { audio, video: preferSharpness(video) };
		const { signal } = this.#lifetime;
		client.addEventListener("participant-joined", ({ detail }) => this.#handleJoined(detail.participant.userId), {
			signal,
		});
		client.addEventListener("participant-left", ({ detail }) => this.#removePeer(detail.userId), { signal });
		client.addEventListener("signal", ({ detail }) => this.#handleSignal(detail.from, detail.data), { signal });
		client.addEventListener("state", () => this.#handleReachable(), { signal });
		client.addEventListener("member-status", ({ detail }) => this.#handleReachable(detail.member.id), { signal });
		client.addEventListener("ice-servers", ({ detail }) => this.#renew(detail), { signal });
		this.#intervals = [
			setInterval(() => this.#measure(), STATS_INTERVAL),
			setInterval(() => this.#measureAudio(), LEVELS_INTERVAL),
		];
	}

	/** Take new credentials, for what is connected as well. @param {IceServers} servers */
	#renew({ iceServers, iceTransportPolicy }) {
		Object.assign(this.#configuration, { iceServers, iceTransportPolicy });
		for (const { pc } of this.#connections) pc.setConfiguration(this.#configuration);
	}

	/** Connect to those who are in the call already; later ones connect to us. @param {Iterable<string>} userIds */
	start(userIds) {
		if (this.#lifetime.signal.aborted) return;
		for (const userId of userIds) if (!this.peers.get(userId)?.connection) this.#add(userId).connect();
	}

	/** Send this to all from now on; nothing is negotiated. @param {Kind} kind @param {Track} track */
	async setTrack(kind, track) {
		this.#tracks[kind] = preferSharpness(track);
		await Promise.all(this.#connections.map((connection) => connection.setTrack(kind, track)));
		if (kind === "video") this.#limitBitrates();
	}

	/** @param {string} userId */
	restart(userId) {
		this.peers.get(userId)?.restart();
	}

	/** To all who are connected, or to one of them; also while the server is away. @param {any} data any JSON @param {string} [userId] */
	send(data, userId) {
		const text = JSON.stringify(data);
		for (const { userId: id, connection } of this.peers.values()) {
			const isMeant = (userId ?? id) === id && connection?.channel.readyState === "open";
			if (isMeant) connection.channel.send(text);
		}
	}

	/** Stop following the client: it is in another group. Connections stay until `close()`. */
	detach() {
		this.#lifetime.abort();
	}

	close() {
		this.detach();
		this.#intervals.forEach(clearInterval);
		for (const peer of this.peers.values()) peer.close();
		this.peers.clear();
	}

	get #connections() {
		return [...this.peers.values()].flatMap(({ connection }) => connection ?? []);
	}

	// --- peers ---

	/** @param {string} userId */
	#add(userId) {
		const known = this.peers.get(userId);
		if (known) return known;
		const peer = new Peer(userId, {
			newConnection: () => this.#connectionTo(userId),
			isReachable: () => this.#isReachable(userId),
			changed: () => this.#emit("peer", { peer }),
		});
		this.peers.set(userId, peer);
		this.#emit("peer", { peer });
		this.#limitBitrates();
		return peer;
	}

	/** @param {string} userId */
	#connectionTo(userId) {
		const isPolite = (this.#client.userId ?? "") < userId;
		const send = (/** @type {Signal} */ signal) => {
			if (this.#client.state !== "closed") this.#client.signal(userId, signal);
		};
		const connection = new Connection(this.#configuration, this.#tracks, isPolite, send);
		connection.channel.onopen = () => this.#emit("open", { userId });
		connection.channel.onmessage = ({ data }) => this.#handleMessage(userId, data);
		connection.limitBitrate(this.peers.size);
		return connection;
	}

	/** @param {string} from @param {string} text of another page, which may send anything */
	#handleMessage(from, text) {
		let data;
		try {
			data = JSON.parse(text);
		} catch {
			return; // not JSON
		}
		if (data?.goodbye === true) this.#removePeer(from);
		else this.#emit("message", { from, data });
	}

	/** True if a signal would arrive soon. @param {string} userId */
	#isReachable(userId) {
		const { state, inCall, call, group } = this.#client;
		return state === "online" && inCall && call.participants.has(userId) && !group?.members.get(userId)?.status;
	}

	/** @param {string} userId */
	#handleJoined(userId) {
		if (this.#client.inCall) this.#add(userId);
	}

	/** @param {string} userId */
	#removePeer(userId) {
		this.peers.get(userId)?.close();
		if (!this.peers.delete(userId)) return;
		this.#emit("peer-left", { userId });
		this.#limitBitrates();
	}

	/** @param {string} from @param {any} data */
	#handleSignal(from, data) {
		if (typeof data?.instance !== "string") return; // not a mesh's signal
		const { inCall, call } = this.#client;
		if (inCall && call.participants.has(from)) this.#add(from).handleSignal(data);
	}

	/** @param {string} [userId] the member who is back; none where we are */
	#handleReachable(userId) {
		for (const peer of this.peers.values())
			if ((!userId || userId === peer.userId) && this.#isReachable(peer.userId)) peer.handleReachable();
	}

	#limitBitrates() {
		for (const connection of this.#connections) connection.limitBitrate(this.peers.size);
	}

	// --- events ---

	async #measure() {
		await Promise.all([...this.peers.values()].map((peer) => peer.measure()));
		this.#emit("stats", {});
	}

	#measureAudio() {
		const changes = [...this.peers.values()].filter((peer) => peer.measureAudio());
		if (changes.length) this.#emit("stats", {});
	}

	/** @template {keyof MeshEvents} K @param {K} type @param {MeshEvents[K]} detail */
	#emit(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}
}
