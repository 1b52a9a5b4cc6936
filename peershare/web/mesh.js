/**
 * A call among browsers: one RTCPeerConnection with each other participant.
 *
 * `Mesh` holds the peers, and the tracks that all get.
 * @import {IceServers, Kind, MeshEvents, PeerShare, Signal, Target, Timer, Track, Tracks, View} from "./types"
 */

import { Connection, preferSharpness } from "./connection.js";
import { Peer } from "./peer.js";
import { Sending } from "./sending.js";

const STATS_INTERVAL = 1_000; // ms
const LEVELS_INTERVAL = 200; // ms
const RESTART_INTERVAL = 2_000; // ms, at least, from one change of the network that is followed to the next

/** Connections to all others in the call. */
export class Mesh extends /** @type {new () => Target<MeshEvents>} */ (EventTarget) {
	/** @type {Map<string, Peer>} */
	peers = new Map();
	#client;
	#configuration;
	#tracks;
	#lifetime = new AbortController();
	#sending;
	/** @type {Timer[]} */
	#intervals;
	/** @type {Timer | undefined} */
	#networkTimer;
	#networkChangedAt = -Infinity;

	/**
	 * Follow the client until `close()`.
	 * @param {PeerShare} client @param {{iceServers?: RTCIceServer[], iceTransportPolicy?: RTCIceTransportPolicy, certificates?: RTCCertificate[], tracks?: Partial<Tracks>}} options
	 */
	constructor(client, options) {
		const { iceServers = [], iceTransportPolicy = "all", certificates = [] } = options;
		const { audio = null, video = null } = options.tracks ?? {};
		super();
		this.#client = client;
		this.#configuration = /** @type {RTCConfiguration} */ ({
			iceServers,
			iceTransportPolicy,
			certificates,
			bundlePolicy: "max-bundle",
		});
		this.#tracks = { audio, video: preferSharpness(video) };
		const { signal } = this.#lifetime;
		client.addEventListener("participant-joined", ({ detail }) => this.#handleJoined(detail.participant.userId), {
			signal,
		});
		client.addEventListener("participant-left", ({ detail }) => this.removePeer(detail.userId), { signal });
		client.addEventListener("signal", ({ detail }) => this.#handleSignal(detail.from, detail.data), { signal });
		client.addEventListener("state", () => this.#handleReachable(), { signal });
		client.addEventListener("member-status", ({ detail }) => this.#handleReachable(detail.member.id), { signal });
		client.addEventListener("network-change", () => this.#handleNetworkChange(), { signal });
		client.addEventListener("ice-servers", ({ detail }) => this.#renew(detail), { signal });
		const tellPause = (/** @type {string} */ userId, /** @type {boolean} */ paused) => this.send({ paused }, userId);
		this.#sending = new Sending(client, this.peers, tellPause, signal);
		this.#intervals = [
			setInterval(() => this.#measure(), STATS_INTERVAL),
			setInterval(() => this.#measureAudio(), LEVELS_INTERVAL),
		];
	}

	/** Take new credentials, for what is connected as well. @param {IceServers} servers */
	#renew({ iceServers, iceTransportPolicy }) {
		Object.assign(this.#configuration, { iceServers, iceTransportPolicy });
		for (const connection of this.#connections) connection.configure(this.#configuration);
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
		if (kind === "video") this.#sending.apply();
	}

	/** Say how large the others are shown, in pixels of the screen; 0 where they are not. @param {View[]} views */
	show(views) {
		this.#sending.show(views);
	}

	/** True if the connection is too weak for video to anybody. */
	get isWeak() {
		return this.#sending.isWeak;
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
		clearTimeout(this.#networkTimer);
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
		const isPolite = (this.#client.userId ?? "") < userId;
		const peer = new Peer(userId, isPolite, {
			newConnection: (isRelayOnly) => this.#connectionTo(userId, isPolite, isRelayOnly),
			isReachable: () => this.#isReachable(userId),
			lost: () => this.#client.checkConnection(),
			changed: () => this.#emit("peer", { peer }),
		});
		this.peers.set(userId, peer);
		this.#emit("peer", { peer });
		return peer;
	}

	/** @param {string} userId @param {boolean} isPolite @param {boolean} isRelayOnly */
	#connectionTo(userId, isPolite, isRelayOnly) {
		const send = (/** @type {Signal} */ signal) => {
			if (this.#client.state !== "closed") this.#client.signal(userId, signal);
		};
		const safetyChanged = () => this.peers.get(userId)?.connection === connection && this.#emit("safety", { userId });
		/** @type {RTCConfiguration} */
		const configuration = isRelayOnly ? { ...this.#configuration, iceTransportPolicy: "relay" } : this.#configuration;
		const connection = new Connection(configuration, this.#tracks, isPolite, send, safetyChanged);
		connection.channel.onopen = () => this.#emit("open", { userId });
		connection.channel.onmessage = ({ data }) => this.#handleMessage(userId, connection, data);
		queueMicrotask(() => this.#sending.apply()); // when it is the peer's
		return connection;
	}

	/** @param {string} from @param {Connection} connection @param {string} text of another page, which may send anything */
	#handleMessage(from, connection, text) {
		let data;
		try {
			data = JSON.parse(text);
		} catch {
			return; // not JSON
		}
		if (data?.goodbye === true) this.removePeer(from);
		else if (typeof data?.paused === "boolean") this.peers.get(from)?.setPaused(data.paused);
		else if (data?.safety !== undefined) connection.safety.handle(data.safety);
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

	/** Close the connection with one who is gone. @param {string} userId */
	removePeer(userId) {
		this.peers.get(userId)?.close();
		if (!this.peers.delete(userId)) return;
		this.#emit("peer-left", { userId });
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

	/** Restart ICE with all, now, or later if that was just done: some networks come and go. */
	#handleNetworkChange() {
		clearTimeout(this.#networkTimer);
		const wait = this.#networkChangedAt + RESTART_INTERVAL - performance.now();
		this.#networkTimer = setTimeout(() => {
			this.#networkChangedAt = performance.now();
			for (const peer of this.peers.values()) peer.handleNetworkChange();
		}, wait);
	}

	// --- events ---

	async #measure() {
		/** @type {Map<string, RTCStatsReport>} */
		const reports = new Map();
		const read = async (/** @type {Peer} */ peer) => {
			const report = await peer.measure();
			if (report) reports.set(peer.userId, report);
		};
		await Promise.all([...this.peers.values()].map(read));
		this.#sending.follow(reports);
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
