/**
 * A call among browsers: one RTCPeerConnection with each other participant.
 *
 * `Connection` is one RTCPeerConnection, negotiated perfectly (W3C webrtc-pc, 10.7). `Peer` is one other participant,
 * over one connection after another, and what a page shows of it. `Mesh` holds the peers and the tracks that all get.
 *
 * A connection has a random name, its instance, which goes with each signal, together with the name of the other
 * side's that it is meant for. That tells what a page said before it was reloaded from what it says now.
 * @import {Kind, MeshEvents, PeerShare, PeerState, Quality, Signal, Target, Timer, Track, Tracks} from "./types"
 */

/** @type {Kind[]} */
const KINDS = ["audio", "video"];
const CANDIDATES_AFTER = 50; // ms in which candidates are gathered into one signal
const HICCUP = 3_000; // ms for which a connection may be gone before it is restarted
const PATIENCE = 10_000; // ms for a connection to be made, before it is made anew
const MANY_ATTEMPTS = 3; // after so many in vain it has failed; it is tried on, but slowly
const SLOWLY = 30_000; // ms
const STATS_EVERY = 1_000; // ms
const LEVELS_EVERY = 200; // ms
const SPEAKING = 0.02; // a level of audio, from 0 to 1
const SPEAKS_ON = 600; // ms: between two words one still speaks
// In bit/s. The upload is shared by all: each peer gets its own stream.
const CAMERA = { atMost: 1_500_000, inAll: 3_000_000 };
const SCREEN = { atMost: 2_500_000, inAll: 6_000_000 };
const GOODBYE = JSON.stringify({ goodbye: true }); // over the data channel, before a connection is closed for good

/**
 * Stands in for a track that one does not have. Only transceivers made by addTrack() are matched with an incoming offer
 * (RFC 8829, 5.10): with those of addTransceiver(), two offers at once would make two lines for each kind.
 * @type {Partial<Record<Kind, MediaStreamTrack>>}
 */
const placeholders = {};

/** @param {Kind} kind */
const placeholder = (kind) => (placeholders[kind] ??= new RTCPeerConnection().addTransceiver(kind).receiver.track);

/** @param {Track} track */
const isScreen = (track) =>
	track !== null && (["detail", "text"].includes(track.contentHint) || "displaySurface" in track.getSettings());

/** A screen is to be sharp rather than fluent. @param {Track} track */
const sharpen = (track) => {
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
	#say;
	#isOffering = false;
	#isSettingAnswer = false;
	/** @type {RTCIceCandidateInit[]} */
	#candidates = [];

	/**
	 * @param {RTCConfiguration} configuration @param {Tracks} tracks
	 * @param {boolean} isPolite whether to give way when both sides offer at once @param {(signal: Signal) => void} say
	 */
	constructor(configuration, tracks, isPolite, say) {
		this.#isPolite = isPolite;
		this.#say = say;
		const pc = (this.pc = new RTCPeerConnection(configuration));
		// What can't be negotiated is not connected in time, and made anew.
		pc.onnegotiationneeded = () => this.#offer().catch(() => {});
		pc.onicecandidate = ({ candidate }) => candidate && this.#gather(candidate.toJSON());
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
			if (!this.isClosed) throw error; // else the other has just left
		}
	}

	get isNegotiated() {
		return this.pc.currentRemoteDescription !== null;
	}

	/** Share the upload with this many; one change after the other, as setParameters() wants it. @param {number} peers */
	limitBitrate(peers) {
		this.#limiting = this.#limiting.then(() => this.#limit(peers)).catch(() => {}); // a courtesy, where it can be set
	}

	/** @param {number} peers */
	async #limit(peers) {
		const sender = /** @type {RTCRtpSender} */ (this.#senders.get("video"));
		const parameters = sender.getParameters();
		if (!parameters.encodings?.length) return;
		const { atMost, inAll } = isScreen(sender.track) ? SCREEN : CAMERA;
		parameters.encodings[0].maxBitrate = Math.min(atMost, inAll / peers);
		await sender.setParameters(parameters);
	}

	// --- perfect negotiation ---

	/** Whether it waits for an answer of its own. An offer that comes then collides. */
	get #collides() {
		return this.#isOffering || (this.pc.signalingState !== "stable" && !this.#isSettingAnswer);
	}

	/**
	 * Whether another connection is to answer an offer in its place. It could take back its own, but Chromium sometimes
	 * gathers no candidates after that: so it is done only where media flow already.
	 */
	get givesWay() {
		return this.#isPolite && !this.isNegotiated && this.#collides;
	}

	async #offer() {
		this.#isOffering = true;
		try {
			await this.pc.setLocalDescription();
			if (this.pc.signalingState === "have-local-offer") this.#describe(); // else theirs has taken its place
		} finally {
			this.#isOffering = false;
		}
	}

	#describe() {
		if (this.pc.localDescription) this.#tell({ description: this.pc.localDescription.toJSON() });
	}

	/** @param {Partial<Signal>} what not after `close`: the other side would take it for news of a new connection */
	#tell(what) {
		if (!this.isClosed) this.#say({ instance: this.instance, to: this.remote, ...what });
	}

	/** @param {RTCIceCandidateInit} candidate */
	#gather(candidate) {
		if (this.#candidates.push(candidate) > 1) return;
		setTimeout(() => this.#tell({ candidates: this.#candidates.splice(0) }), CANDIDATES_AFTER);
	}

	/** @param {Signal} signal of the other side's connection to this one */
	async hear({ to, description, candidates = [] }) {
		if (description?.type === "offer") await this.#hearOffer(description, !to);
		if (description?.type === "answer") await this.#hearAnswer(description);
		for (const candidate of candidates) this.#hearCandidate(candidate);
	}

	/** @param {RTCSessionDescriptionInit} offer @param {boolean} isFirst whether ours was not heard before it was made */
	async #hearOffer(offer, isFirst) {
		const goesFirst = this.#collides && !this.#isPolite;
		if (!goesFirst) {
			await this.pc.setRemoteDescription(offer); // takes back our own, where they collide
			await this.pc.setLocalDescription();
		}
		// Our own, if that goes first, may have come when nobody was there to hear it: then it is said again.
		if (!goesFirst || isFirst) this.#describe();
	}

	/** @param {RTCSessionDescriptionInit} answer */
	async #hearAnswer(answer) {
		if (this.pc.signalingState !== "have-local-offer") return; // to an offer that was said again
		this.#isSettingAnswer = true;
		try {
			await this.pc.setRemoteDescription(answer);
		} finally {
			this.#isSettingAnswer = false;
		}
	}

	/** @param {RTCIceCandidateInit} candidate */
	#hearCandidate(candidate) {
		// One of an offer that was ignored or taken back is refused, and that is as it should be.
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

/** Makes qualities of what getStats() counts. */
class Meter {
	#at = NaN; // of the first reading nothing can be told
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

/** @param {number} loss @param {number} roundTrip in s: talking is at ease up to 0.15 s one way (ITU-T G.114) */
const level = (loss, roundTrip) => {
	if (loss > 0.05 || roundTrip > 0.6) return "poor";
	return loss > 0.02 || roundTrip > 0.3 ? "fair" : "good";
};

/** @type {Quality} */
const UNKNOWN = { level: "unknown", roundTrip: 0, loss: 0, bitrate: 0, framesDecoded: 0, resolution: "" };

/** Another participant. What a page reads is in its fields; its methods are for the mesh. */
export class Peer {
	/** @type {PeerState} */
	state = "connecting";
	/** What comes from there: another object with each connection. */
	stream = new MediaStream();
	quality = UNKNOWN;
	speaking = false;
	audioLevel = 0;

	/** @type {Connection | null} */
	#connection = null;
	#company;
	#attempts = 0;
	#meter = new Meter();
	#heardAt = 0; // the time of the last frame of audio
	#spokeAt = -Infinity;
	/** @type {Timer | undefined} */
	#timer;

	/**
	 * @param {string} userId
	 * @param {{newConnection: () => Connection, isReachable: () => boolean, changed: () => void}} company
	 */
	constructor(userId, company) {
		this.userId = userId;
		this.#company = company;
		this.#later(PATIENCE, () => this.#connectAnew()); // in case it does not connect to us, as who joins does
	}

	get connection() {
		return this.#connection;
	}

	/** With a new connection. */
	connect() {
		this.#connection?.close();
		const connection = (this.#connection = this.#company.newConnection());
		connection.pc.onconnectionstatechange = () => this.#follow(connection.pc.connectionState);
		this.stream = connection.stream;
		this.#meter = new Meter();
		this.quality = UNKNOWN;
		this.#later(PATIENCE, () => this.#connectAnew());
		this.#show(this.state === "connected" ? "reconnecting" : this.state);
		return connection;
	}

	/** @param {Signal} signal */
	hear(signal) {
		const { instance, to, description } = signal;
		const mine = this.#connection;
		const isNew = instance !== mine?.remote;
		const isOffer = description?.type === "offer";
		if (to && to !== mine?.instance) return; // it is meant for one that is no more
		if (isNew && !description) return; // candidates: of one that is no more, or has not got through to us
		const connection = !mine || (isOffer && ((isNew && mine.remote) || mine.givesWay)) ? this.connect() : mine;
		connection.remote = instance;
		connection.hear(signal).catch(() => {}); // as what can't be offered
	}

	/** Signaling is possible again: what broke in the meantime can be mended. */
	wake() {
		const isWaiting = this.#timer && this.state !== "failed"; // it is being made, or soon mended
		if (this.state !== "connected" && !isWaiting) this.#mend();
	}

	/** By hand, without waiting any longer. */
	restart() {
		this.#attempts = 0;
		this.state = "reconnecting";
		this.connect();
	}

	/** The other side hears it at once, whether the server is there to say so or not. */
	close() {
		clearTimeout(this.#timer);
		if (this.#connection?.channel.readyState === "open") this.#connection.channel.send(GOODBYE);
		this.#connection?.close();
	}

	// --- when it breaks ---

	/** @param {RTCPeerConnectionState} state */
	#follow(state) {
		if (state === "connected") this.#rejoice();
		if (state === "disconnected") this.#later(HICCUP, () => this.#mend());
		if (state === "failed") this.#mend();
		if ((state === "disconnected" || state === "failed") && this.state === "connected") this.#show("reconnecting");
	}

	#rejoice() {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#attempts = 0;
		this.#show("connected");
	}

	#mend() {
		if (!this.#company.isReachable()) return; // `wake` comes when it is
		if (!this.#connection?.isNegotiated) return this.#connectAnew();
		this.#connection.pc.restartIce();
		this.#later(PATIENCE, () => this.#connectAnew());
	}

	#connectAnew() {
		if (!this.#company.isReachable()) return;
		this.#attempts++;
		this.connect();
		if (this.#attempts < MANY_ATTEMPTS) return;
		this.#later(SLOWLY, () => this.#connectAnew());
		this.#show("failed");
	}

	/** @param {number} ms @param {() => void} then */
	#later(ms, then) {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			this.#timer = undefined;
			then();
		}, ms);
	}

	/** @param {Peer["state"]} state */
	#show(state) {
		this.state = state;
		if (state !== "connected") this.quality = UNKNOWN;
		this.#company.changed();
	}

	// --- what can be measured ---

	async measure() {
		const connection = this.#connection;
		const report = await connection?.pc.getStats();
		const isCurrent = connection === this.#connection && this.state === "connected";
		if (report && isCurrent) this.quality = this.#meter.read(report);
	}

	/** How loud it is. Whether it has begun or ceased to speak. */
	listen() {
		const receiver = this.#connection?.pc.getReceivers().find(({ track }) => track.kind === "audio");
		const [source] = receiver?.getSynchronizationSources() ?? [];
		const isNew = source && source.timestamp !== this.#heardAt; // else nothing has come: it is muted
		this.#heardAt = source?.timestamp ?? 0;
		this.audioLevel = isNew ? (source.audioLevel ?? 0) : 0;
		if (this.audioLevel > SPEAKING) this.#spokeAt = performance.now();
		const before = this.speaking;
		this.speaking = performance.now() - this.#spokeAt < SPEAKS_ON;
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
	#living = new AbortController();
	/** @type {Timer[]} */
	#intervals;

	/**
	 * It listens to the client until `close()`.
	 * @param {PeerShare} client @param {{iceServers?: RTCIceServer[], tracks?: Partial<Tracks>}} options
	 */
	constructor(client, { iceServers = [], tracks: { audio = null, video = null } = {} }) {
		super();
		this.#client = client;
		this.#configuration = /** @type {RTCConfiguration} */ ({ iceServers, bundlePolicy: "max-bundle" });
		this.#tracks = { audio, video: sharpen(video) };
		const { signal } = this.#living;
		client.addEventListener("participant-joined", ({ detail }) => this.#join(detail.participant.userId), { signal });
		client.addEventListener("participant-left", ({ detail }) => this.#leave(detail.userId), { signal });
		client.addEventListener("signal", ({ detail }) => this.#hear(detail.from, detail.data), { signal });
		client.addEventListener("state", () => this.#wake(), { signal });
		client.addEventListener("member-status", ({ detail }) => this.#wake(detail.member.id), { signal });
		this.#intervals = [
			setInterval(() => this.#measure(), STATS_EVERY),
			setInterval(() => this.#listen(), LEVELS_EVERY),
		];
	}

	/** Connect to those who are in the call already; who comes later connects to us. @param {Iterable<string>} userIds */
	start(userIds) {
		if (this.#living.signal.aborted) return;
		for (const userId of userIds) if (!this.peers.get(userId)?.connection) this.#add(userId).connect();
	}

	/** Send this to all from now on; nothing is negotiated. @param {Kind} kind @param {Track} track */
	async setTrack(kind, track) {
		this.#tracks[kind] = sharpen(track);
		await Promise.all(this.#connections.map((connection) => connection.setTrack(kind, track)));
		if (kind === "video") this.#shareUpload();
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

	/** Listen to the client no more: it has gone elsewhere. Who is connected stays so, until `close()`. */
	detach() {
		this.#living.abort();
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

	// --- who is there ---

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
		this.#shareUpload();
		return peer;
	}

	/** @param {string} userId */
	#connectionTo(userId) {
		const isPolite = (this.#client.userId ?? "") < userId;
		const say = (/** @type {Signal} */ signal) => {
			if (this.#client.state !== "closed") this.#client.signal(userId, signal);
		};
		const connection = new Connection(this.#configuration, this.#tracks, isPolite, say);
		connection.channel.onopen = () => this.#emit("open", { userId });
		connection.channel.onmessage = ({ data }) => this.#pass(userId, data);
		connection.limitBitrate(this.peers.size);
		return connection;
	}

	/** @param {string} from @param {string} text of another's page, which may say anything */
	#pass(from, text) {
		let data;
		try {
			data = JSON.parse(text);
		} catch {
			return; // no JSON is no message
		}
		if (data?.goodbye === true) this.#leave(from);
		else this.#emit("message", { from, data });
	}

	/** Whether what we say would be heard soon. @param {string} userId */
	#isReachable(userId) {
		const { state, inCall, call, group } = this.#client;
		return state === "online" && inCall && call.participants.has(userId) && !group?.members.get(userId)?.status;
	}

	/** @param {string} userId */
	#join(userId) {
		if (this.#client.inCall) this.#add(userId);
	}

	/** @param {string} userId */
	#leave(userId) {
		this.peers.get(userId)?.close();
		if (!this.peers.delete(userId)) return;
		this.#emit("peer-left", { userId });
		this.#shareUpload();
	}

	/** @param {string} from @param {any} data */
	#hear(from, data) {
		if (typeof data?.instance !== "string") return; // it is not for us
		const { inCall, call } = this.#client;
		if (inCall && call.participants.has(from)) this.#add(from).hear(data);
	}

	/** @param {string} [userId] who is back; all are where we are */
	#wake(userId) {
		for (const peer of this.peers.values())
			if ((!userId || userId === peer.userId) && this.#isReachable(peer.userId)) peer.wake();
	}

	#shareUpload() {
		for (const connection of this.#connections) connection.limitBitrate(this.peers.size);
	}

	// --- what is told to the page ---

	async #measure() {
		await Promise.all([...this.peers.values()].map((peer) => peer.measure()));
		this.#emit("stats", {});
	}

	#listen() {
		const changes = [...this.peers.values()].filter((peer) => peer.listen());
		if (changes.length) this.#emit("stats", {});
	}

	/** @template {keyof MeshEvents} K @param {K} type @param {MeshEvents[K]} detail */
	#emit(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}
}
