/**
 * PeerShare's signaling for any page: a session that comes back by itself, its group, its call.
 *
 * `SessionWindow` counts the messages of both sides and keeps those that may have to be sent again; `RateLimiter` keeps
 * below the server's rates; `PeerShare` holds one connection after another, and the state of group and call. Nothing here
 * knows of WebRTC or of a page's looks. How to use it: docs/web-module.md. The protocol: docs/protocol.md, docs/sessions.md.
 * @import {Answers, Call, ClientMessages, Events, Group, IceServers, LinkReport, Lobby, Media, Participant, PendingRequest, Ring, RingEnded, RingPair, Saved, SentMessage, ServerMessages, State, Target, Timer, Token, View} from "./types"
 */

import { CloseCode, OWN_RECONNECT_CODES, PROTOCOL_VERSION, RECONNECT_CODES } from "./protocol.js";

const MAX_UNCONFIRMED = 256; // messages: as many as the server keeps in the other direction
const CONFIRM_INTERVAL = 25; // messages, after which each side learns how many have arrived
const MAX_IN_FLIGHT = 50; // messages that are not confirmed: what stalls on the way arrives in one moment
const ACK_INTERVAL = 10_000; // ms, after which something new is acknowledged
const TIMEOUT = 10_000; // ms for a connection to open, and for a pong
const MIN_TIMEOUT = 2_000; // the same while the session can be resumed: a packet lost on the way is not waited for
const SHORT_TIMEOUT = 3_000; // the same where there is a reason to doubt the connection, or to try again
const PROBE_INTERVAL = 2_000; // ms, on average, while the server is away and the page is visible
const TOUCH_INTERVAL = 1_000; // ms: not each of many touches, or changes of the network, is an attempt
const FIRST_DELAY = 500; // ms, a bound that doubles
const DEFAULT_GRACE = 30_000; // ms for which the server keeps a session, until it has said so
const RECENT_RINGS = 500; // of a whole group; the server keeps fewer
const HELLO_ID = "hello"; // its requestId; those of requests are numbers
const AWAY = OWN_RECONNECT_CODES.first; // our close code where we come back: a member is away then, and has not left

// Reserved for what closes without a word, and for proxies (RFC 6455, section 7.4, and IANA's registry).
const FOREIGN_RECONNECT_CODES = new Set([1005, 1012, 1013, 1014]);

/** Messages about the session are not counted in it. @type {Set<keyof ServerMessages>} */
const UNCOUNTED = new Set(["connection-established", "welcome", "resumed", "server-draining"]);

/**
 * A random time between 0 and a bound that doubles: "full jitter". @param {number} attempt the first is 0
 * @param {number} longest
 */
const fullJitter = (attempt, longest) => Math.random() * Math.min(longest, FIRST_DELAY * 2 ** attempt);

/**
 * True if a client connects again after this close code (docs/protocol.md): newer servers may have more
 * codes of ours, so those go by their range. @param {number} code
 */
const shouldReconnect = (code) =>
	code >= OWN_RECONNECT_CODES.first
		? code <= OWN_RECONNECT_CODES.last
		: RECONNECT_CODES.has(code) || FOREIGN_RECONNECT_CODES.has(code);

/** An `error` from the server. `code` is one of docs/protocol.md's, or ANSWER_LOST. */
export class RefusedError extends Error {
	/** @param {{code: string, message: string, details?: Record<string, any>}} error */
	constructor({ code, message, details = {} }) {
		super(message);
		this.name = "RefusedError";
		this.code = code;
		this.details = details;
	}
}

// Its first name, which pages of others import.
export { RefusedError as Refused };

/** The messages that were sent and may not have arrived, the oldest first, and the number of those received. */
class SessionWindow {
	received = 0;
	#acknowledged = 0;
	#confirmed = 0; // messages of ours that have arrived, from the session's beginning
	/** @type {SentMessage[]} */
	#unconfirmed = [];
	#written = 0; // of those, on the current connection

	/** @param {string} text */
	add(text) {
		if (this.#unconfirmed.length >= MAX_UNCONFIRMED) throw new RangeError("too much is waiting to be sent");
		const message = { text };
		this.#unconfirmed.push(message);
		return message;
	}

	get sent() {
		return this.#confirmed + this.#unconfirmed.length;
	}

	get hasUnwritten() {
		return this.#written < Math.min(this.#unconfirmed.length, MAX_IN_FLIGHT);
	}

	/** True if the next to write is a `signal`, which the server counts apart. */
	get isSignalNext() {
		return this.#unconfirmed[this.#written].text.startsWith('{"type":"signal"');
	}

	/** The next to write. It counts as written. */
	next() {
		return this.#unconfirmed[this.#written++].text;
	}

	/** @param {SentMessage} message */
	isUnconfirmed(message) {
		return this.#unconfirmed.includes(message);
	}

	/** This one has arrived, and with it all before. @param {SentMessage} message */
	confirm(message) {
		this.#drop(this.#unconfirmed.indexOf(message) + 1);
	}

	/** @param {number} count */
	#drop(count) {
		this.#unconfirmed.splice(0, count);
		this.#confirmed += count;
		this.#written = Math.max(0, this.#written - count);
	}

	/**
	 * On another connection, write again all that did not arrive. After a reload, the messages that arrived were those of
	 * the page before. A server that has crashed does not know, and names a number beyond all: what was written may have
	 * arrived, and is not written twice. @param {ServerMessages["resumed"]} resumed @param {boolean} isReloaded
	 */
	resume({ recovered, received }, isReloaded) {
		if (isReloaded) this.#confirmed = received;
		const isUnknown = received > this.sent;
		this.#drop(isUnknown ? this.#written : received - this.#confirmed);
		if (isUnknown) this.#confirmed = received;
		this.#written = 0;
		if (!recovered) this.received = this.#acknowledged = 0;
	}

	/** How many messages to acknowledge, if it is time to. @param {number} [atLeast] */
	ackDue(atLeast = CONFIRM_INTERVAL) {
		if (this.received - this.#acknowledged < atLeast) return null;
		return (this.#acknowledged = this.received);
	}
}

/**
 * Keeps below one of the server's rates: a refused `signal` would be lost. Half of its burst and four fifths of its
 * rate leave room for delays.
 */
class RateLimiter {
	#gap; // ms between two messages
	#burst; // ms that one may be ahead
	#due = 0;

	/** @param {number} [rate] @param {number} [burst] */
	constructor(rate = 50, burst = 100) {
		this.#gap = 1250 / rate;
		this.#burst = (this.#gap * burst) / 2;
	}

	/** In ms, until the next message may be sent. */
	get delay() {
		return Math.max(0, this.#due - performance.now() - this.#burst);
	}

	take() {
		this.#due = Math.max(this.#due, performance.now()) + this.#gap;
	}
}

/** @template T @param {T[]} items @param {(item: T) => string} key @returns {Map<string, T>} */
const mapBy = (items, key) => new Map(items.map((item) => [key(item), item]));

/** Those of `others` that are not in `map`. @template T @param {Map<string, T>} map @param {Map<string, T>} [others] */
const notIn = (map, others = new Map()) => [...others].flatMap(([key, item]) => (map.has(key) ? [] : item));

/** @param {RingPair} ring @returns {(other: RingPair) => boolean} */
const isSameRing = (ring) => (other) => ring.from === other.from && ring.to === other.to;

/** @returns {Call} */
const emptyCall = () => ({ participants: new Map(), incoming: new Map(), outgoing: new Map(), recent: [] });

/** A session with a PeerShare server. */
export class PeerShare extends /** @type {new () => Target<Events>} */ (EventTarget) {
	/** @type {string | null} */
	userId = null;
	/** @type {Record<string, number>} the names and numbers of GET /api/limits, once they are known */
	limits = {};
	/** @type {Group | null} */
	group = null;
	/** @type {Call} */
	call = emptyCall();
	/** What to send to whom in the call. @type {ServerMessages["mesh-plan"] | null} */
	meshPlan = null;
	/** @type {number | null} ms since 1970: the time of the next attempt */
	retryAt = null;
	/** True if the server refuses the address of this page, as far as it tells. */
	isRefused = false;
	#wasOpen = false; // the last connection

	/** @type {State} */
	#state = "connecting";
	#url;
	#delay;
	/** @type {Token | undefined} */
	#token;
	/** @type {WebSocket | null} */
	#socket = null;
	#messageLimiter = new RateLimiter();
	#signalLimiter = this.#messageLimiter;
	#window = new SessionWindow();
	/** @type {{sessionId: string, resumeToken: string} | null} */
	#session = null;
	/** @type {Partial<Saved>} of the group, also while it is not known yet */
	#groupToSave = {};
	/** @type {Map<string, PendingRequest>} */
	#requests = new Map();
	#requestCount = 0;
	/** @type {Lobby | null} */
	#lobby = null;
	#media = { audio: false, video: false, screen: false }; // one's own, as the call was joined with
	#isReloaded = false; // the session was another page's, and this one has none of its state yet
	#isResuming = false; // this connection's hello asked for that
	#isSessionLost = false; // the page is told when there is another session
	#connectionId = ""; // the user ID, if no session is resumed on this connection
	#isCallStale = false; // the call has ended unless `call-state` follows
	#attempt = 0;
	#grace = DEFAULT_GRACE;
	#connectedAt = -Infinity; // the last time with a session
	#connectTimes = [0]; // ms, each of the last three attempts until its session
	#serverDelay = 0; // ms, as the server asked for before it closed
	#notBefore = 0; // by performance.now(): the end of that delay
	#attemptedAt = -Infinity; // the beginning of the last attempt
	#probeFailed = false; // so the next that succeeds is news
	#clockOffset = -Infinity; // ms by which the server's clock is ahead
	#heartbeat = 30_000; // ms between the server's own pings, which no page can see
	#willChange = false;
	#isUnloading = false; // the page is hidden then as well, but not in the background
	/** @type {Record<string, Timer>} */
	#timers = {};
	#lifetime = new AbortController();

	/**
	 * @param {string | URL} [url] of the WebSocket. By default that of the server from which this module came.
	 * @param {{saved?: Saved | null, wait?: (attempt: number, longest: number) => number, token?: Token}} [options] `saved`: what
	 *   `save()` gave before a reload. `wait`: how many ms from one attempt to connect again to the next, the first of which is
	 *   0. `token`: says who the user is; a function that fetches one is asked for each connection, and before it is over.
	 */
	constructor(url = new URL("../ws", import.meta.url), { saved = null, wait = fullJitter, token } = {}) {
		super();
		this.#url = new URL(url, globalThis.location?.href);
		this.#url.protocol = this.#url.protocol.replace("http", "ws");
		this.#delay = wait;
		this.#token = token;
		if (saved) {
			const { sessionId, resumeToken, ...group } = saved;
			this.#session = { sessionId, resumeToken };
			this.#groupToSave = group;
			this.#isReloaded = true;
			this.#connectedAt = performance.now();
		}
	}

	// --- open and close ---

	get state() {
		return this.#state;
	}

	/** Connect, and connect again whenever the connection is lost, until `close()`. */
	open() {
		if (this.#socket || this.#state !== "connecting") return;
		const { signal } = this.#lifetime;
		addEventListener("online", () => this.#handleNetworkChange(), { signal });
		addEventListener("offline", () => this.checkConnection(), { signal });
		const { connection } = navigator; // not every browser has it, and fewer its type
		let type = connection?.type;
		const followType = () => type !== (type = connection?.type) && this.#handleNetworkChange();
		connection?.addEventListener("change", followType, { signal });
		for (const touch of ["pointerdown", "keydown"])
			addEventListener(touch, () => this.#handleTouch(), { signal, capture: true, passive: true });
		for (const way of ["pagehide", "pageshow"])
			addEventListener(way, ({ type }) => (this.#isUnloading = type === "pagehide"), { signal });
		document.addEventListener("visibilitychange", () => this.#isUnloading || this.#showVisibility(), { signal });
		this.#connect();
	}

	/** Leave the group and end the session, for good. */
	close() {
		if (this.#state === "closed") return;
		const socket = this.#socket;
		if (this.#state === "online" && this.group && this.userId) this.#write("leave-group", { userId: this.userId });
		this.#detachSocket();
		socket?.close(CloseCode.CLOSED);
		this.#end(CloseCode.CLOSED, "closed");
	}

	/** Connect at once, instead of waiting for the time of the next attempt, or for an answer to the last. */
	retryNow() {
		if (this.#state === "reconnecting" && !this.#isConnecting) this.#reconnect();
	}

	#reconnect() {
		const socket = this.#socket;
		this.#detachSocket();
		socket?.close(AWAY);
		this.#connect();
	}

	/** True if an attempt has just begun, and may still succeed. */
	get #isConnecting() {
		return this.retryAt === null && performance.now() - this.#attemptedAt < SHORT_TIMEOUT;
	}

	/** The state to go on with this session after a reload; for sessionStorage. @returns {Saved | null} */
	save() {
		return this.#session && this.#state !== "closed" ? { ...this.#session, ...this.#groupToSave } : null;
	}

	/** The server's clock, in ms since 1970, by which `until` is measured. */
	serverNow() {
		return Date.now() + (Number.isFinite(this.#clockOffset) ? this.#clockOffset : 0);
	}

	// --- requests ---

	/**
	 * @param {string} groupName @param {string} username
	 * @param {string} [groupId] of a group that has ended, to open it again, or to join whoever has done so
	 * @returns {Promise<Group>}
	 */
	async createGroup(groupName, username, groupId) {
		await this.request("create-group", { groupName, username, groupId });
		return /** @type {Group} */ (this.group);
	}

	/**
	 * Join, which may take until a moderator lets us in: the event "lobby". @param {string} groupId @param {string} username
	 * @param {string} [passcode] @returns {Promise<Group>}
	 */
	async joinGroup(groupId, username, passcode) {
		const wanted = { groupId, username, passcode };
		const { position } = await this.request("join-group", wanted);
		if (position) await new Promise((resolve, reject) => (this.#lobby = { wanted, resolve, reject }));
		return /** @type {Group} */ (this.group);
	}

	async leaveGroup() {
		if (this.group && this.userId) await this.request("leave-group", { userId: this.userId });
	}

	get inCall() {
		return this.userId !== null && this.call.participants.has(this.userId);
	}

	/** @param {Media} media @returns {Promise<Participant[]>} the others, to connect to */
	async joinCall({ audio, video, screen = false }) {
		this.#media = { audio, video, screen };
		/** @type {Answers["join-call"]} */
		const { participants } = await this.request("join-call", this.#media);
		return participants;
	}

	async leaveCall() {
		await this.request("leave-call", {});
	}

	/** @param {Media} media */
	async updateMedia({ audio, video, screen = false }) {
		await this.request("update-media", { audio, video, screen });
	}

	/** Ring one member, or all who are not in the call. @param {string} [userId] @returns {Promise<Ring[]>} */
	async ring(userId) {
		/** @type {Answers["ring"]} */
		const { rings } = await this.request("ring", userId === undefined ? {} : { to: userId });
		return rings;
	}

	/** @param {string} from the user ID of the caller */
	async declineRing(from) {
		await this.request("decline-ring", { from });
	}

	/** They are renewed while we are in a call: the event "ice-servers". @returns {Promise<IceServers>} */
	getIceServers() {
		return this.request("get-ice-servers", {});
	}

	/** Send it to another member, now or when the connection is back. @param {string} to @param {any} data any JSON */
	signal(to, data) {
		this.#send("signal", { to, data });
	}

	/**
	 * Say how large the others are shown, in pixels of the screen, and how much our line takes, if it is little; in bit/s.
	 * Not sent outside of the call. @param {View[]} views @param {number} [maxUpload]
	 */
	updateLayout(views, maxUpload) {
		if (this.#state !== "closed" && this.inCall) this.#send("update-layout", { views, maxUpload });
	}

	/** Say how the connection with another participant has become. Not sent outside of the call. @param {LinkReport} report */
	reportLink(report) {
		if (this.#state !== "closed" && this.inCall) this.#send("link-report", report);
	}

	// --- sending ---

	/**
	 * Ask for what has no method of its own: docs/moderation.md.
	 * @template {keyof ClientMessages} K
	 * @param {K} type @param {ClientMessages[K]} payload @returns {Promise<any>} the answer's payload
	 */
	request(type, payload) {
		return new Promise((resolve, reject) => {
			const requestId = `${++this.#requestCount}`;
			const message = this.#send(type, payload, requestId);
			this.#requests.set(requestId, { message, resolve, reject });
		});
	}

	/** @template {keyof ClientMessages} K @param {K} type @param {ClientMessages[K]} payload @param {string} [requestId] */
	#send(type, payload, requestId) {
		if (this.#state === "closed") throw new Error("closed");
		const text = JSON.stringify({ type, payload, requestId });
		const { messageSize = Infinity } = this.limits;
		if (text.length * 3 > messageSize && new TextEncoder().encode(text).length > messageSize)
			throw new RangeError("too long a message");
		const message = this.#window.add(text);
		queueMicrotask(() => this.#flush()); // once the request is noted
		if (this.#window.sent % CONFIRM_INTERVAL === 0) this.#ping();
		return message;
	}

	/** A pong confirms all that was sent before its ping; the server has no other way to. */
	#ping() {
		this.request("ping", {}).catch(() => {});
	}

	/** @param {Record<string, number>} limits */
	#setRates({ messageRate, messageBurst, signalRate, signalBurst }) {
		this.#messageLimiter = new RateLimiter(messageRate, messageBurst);
		// An older server counts signals as messages.
		this.#signalLimiter = signalRate ? new RateLimiter(signalRate, signalBurst) : this.#messageLimiter;
	}

	#flush() {
		while (this.#state === "online" && this.#window.hasUnwritten) {
			const limiter = this.#window.isSignalNext ? this.#signalLimiter : this.#messageLimiter;
			if (limiter.delay) return this.#setTimer("flush", limiter.delay, () => this.#flush());
			limiter.take();
			this.#socket?.send(this.#window.next());
		}
	}

	/**
	 * Outside of the session: neither counted nor sent again.
	 * @template {keyof ClientMessages} K @param {K} type @param {ClientMessages[K]} payload @param {string} [requestId]
	 */
	#write(type, payload, requestId) {
		this.#messageLimiter.take();
		this.#socket?.send(JSON.stringify({ type, payload, requestId }));
	}

	/** @param {number} [atLeast] */
	#acknowledge(atLeast) {
		const received = this.#window.ackDue(atLeast);
		if (received !== null) this.#write("ack", { received });
	}

	// --- one connection after another ---

	#connect() {
		clearTimeout(this.#timers.retry);
		this.retryAt = null;
		this.#attemptedAt = performance.now();
		this.#scheduleProbe();
		const url = new URL(this.#url);
		// A known session passes the server's limits by address.
		if (this.#session) url.searchParams.set("session", this.#session.sessionId);
		const socket = (this.#socket = new WebSocket(url));
		this.#wasOpen = false;
		socket.onopen = () => this.#sendHello();
		socket.onmessage = ({ data }) => this.#handleMessage(JSON.parse(data));
		socket.onclose = ({ code, reason }) => this.#handleClose(code, reason);
		// Slow networks get more time, by the fastest of the last attempts: the others may have met a server that stood
		// still. No more than that: what began while the network was away may get no answer for ever.
		const timeout = Math.max(MIN_TIMEOUT, 2 * Math.min(...this.#connectTimes));
		this.#expectActivity(this.#mayResume ? Math.min(TIMEOUT, timeout) : TIMEOUT);
	}

	/** True if the server may still have the session. */
	get #mayResume() {
		return performance.now() - this.#connectedAt < this.#grace;
	}

	/** With no token this is done at once. @param {string} [token] */
	#sendHello(token) {
		if (this.#token && !token) {
			this.#withToken((token) => this.#sendHello(token));
			return;
		}
		this.#wasOpen = true;
		this.isRefused = false;
		this.#isResuming = this.#session !== null;
		// A page that was reloaded has no state to add the missed messages to: it asks for the whole.
		const received = this.#isReloaded ? Number.MAX_SAFE_INTEGER : this.#window.received;
		const resume = this.#session ? { ...this.#session, received } : undefined;
		this.#write("hello", { protocol: PROTOCOL_VERSION, resume, token }, HELLO_ID);
	}

	/** Where none can be had, the connection comes to its end, and to another attempt. @param {(token: string) => void} use */
	async #withToken(use) {
		const socket = this.#socket;
		const fetch = async () => (typeof this.#token === "function" ? this.#token() : this.#token);
		const token = await fetch().catch(() => "");
		if (token && socket === this.#socket) use(token);
	}

	/** Go on with a newer token of the same user, when "token-expiring" has come. @param {string} token */
	async refreshToken(token) {
		if (typeof this.#token !== "function") this.#token = token;
		await this.request("auth-refresh", { token });
	}

	/** @param {number} code @param {string} [reason] */
	#handleClose(code, reason = "") {
		this.#detachSocket();
		if (!shouldReconnect(code)) return this.#end(code, reason);
		const now = performance.now();
		if (this.#state === "online") this.#connectedAt = now;
		// No network that works for 3 s may be missed while the session can be resumed.
		const longest = this.#mayResume ? this.#grace / 15 : this.#grace / 3;
		const serverDelay = this.#mayResume ? Math.min(this.#serverDelay, this.#grace / 3) : this.#serverDelay;
		const since = Math.max(this.#connectedAt, this.#attemptedAt);
		const delay = serverDelay + Math.max(0, since + this.#delay(this.#attempt++, longest) - now);
		this.#notBefore = performance.now() + serverDelay;
		this.#serverDelay = 0;
		this.retryAt = Date.now() + delay;
		this.#setTimer("retry", delay, () => this.#connect());
		this.#scheduleProbe();
		this.#setState("reconnecting");
		if (!this.#wasOpen) this.#checkRefusal();
	}

	/** The browser says only that there is no connection; the server judges a POST alike (docs/protocol.md). */
	async #checkRefusal() {
		const url = new URL(this.#url);
		url.protocol = url.protocol.replace("ws", "http");
		const options = /** @type {const} */ ({ method: "POST", cache: "no-store", credentials: "omit" });
		const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(SHORT_TIMEOUT) }).catch(() => null);
		const isRefused = answer?.status === 403 || answer?.status === 421;
		if (this.#state !== "reconnecting" || isRefused === this.isRefused) return;
		this.isRefused = isRefused;
		this.#emit("state", { state: this.#state });
	}

	/** Connect at once where the server may be reached again, but not before the time that it asked for. */
	#retryEarly() {
		if (performance.now() >= this.#notBefore) this.retryNow();
	}

	#handleTouch() {
		if (performance.now() - this.#attemptedAt > TOUCH_INTERVAL) this.#retryEarly();
	}

	#scheduleProbe() {
		this.#setTimer("probe", PROBE_INTERVAL * (0.5 + Math.random()), () => this.#probe());
	}

	/**
	 * Look whether the server is back: that costs it less than an attempt to connect, and the time between those doubles.
	 * Only the first answer after a failed probe counts: a server that is there and refuses connections gets no more of them.
	 */
	async #probe() {
		if (document.hidden) return this.#scheduleProbe();
		const isUp = this.#state === "reconnecting" && (await this.#isServerUp());
		if (this.#state !== "reconnecting") return;
		this.#scheduleProbe();
		if (!isUp) this.#probeFailed = true;
		if (!isUp || !this.#probeFailed || this.#isConnecting || performance.now() < this.#notBefore) return;
		this.#probeFailed = false;
		this.retryNow();
	}

	async #isServerUp() {
		const url = new URL("api/health/live", this.#url);
		url.protocol = url.protocol.replace("ws", "http");
		// Another origin's answer can't be read; that there is one is enough.
		const options = /** @type {const} */ ({ mode: "no-cors", cache: "no-store", credentials: "omit" });
		const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(SHORT_TIMEOUT) }).catch(() => null);
		return answer !== null && answer.status < 500; // else it is a proxy's
	}

	/** Go on without waiting for the close event, which comes a minute late where the network is gone. */
	#abandon() {
		const socket = this.#socket;
		this.#detachSocket();
		socket?.close(AWAY);
		this.#handleClose(CloseCode.LOST);
	}

	#detachSocket() {
		if (this.#socket) this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
		this.#socket = null;
		for (const timer of Object.values(this.#timers)) clearTimeout(timer);
		this.#timers = {};
	}

	/** @param {number} code @param {string} reason */
	#end(code, reason) {
		this.retryAt = null;
		this.#lifetime.abort();
		this.#setState("closed");
		this.#rejectRequests(new Error("closed"));
		this.#emit("closed", { code, reason });
	}

	/** Give the connection up unless a message comes within this time. @param {number} timeout in ms */
	#expectActivity(timeout) {
		this.#setTimer("activity", timeout, () => this.#abandon());
	}

	/** An attempt that runs was by the network before; what this one has is known soon. */
	#handleNetworkChange() {
		const isOld = performance.now() - this.#attemptedAt > TOUCH_INTERVAL;
		if (this.#state === "reconnecting" && isOld && performance.now() >= this.#notBefore) this.#reconnect();
		this.checkConnection(MIN_TIMEOUT);
		this.#emit("network-change", {});
	}

	/**
	 * Look whether the connection is still there: the network was away, or the machine asleep.
	 * @param {number} [timeout] in ms
	 */
	checkConnection(timeout = SHORT_TIMEOUT) {
		this.#retryEarly();
		if (this.#state !== "online") return;
		this.#ping();
		this.#expectActivity(timeout);
	}

	#showVisibility() {
		const visibility = document.hidden ? "background" : "foreground";
		if (this.#state !== "connecting") this.#send("client-state", { visibility });
		if (!document.hidden) this.checkConnection();
	}

	/** @param {string} name @param {number} ms @param {() => void} then */
	#setTimer(name, ms, then) {
		clearTimeout(this.#timers[name]);
		this.#timers[name] = setTimeout(then, ms);
	}

	// --- receiving ---

	/** @param {{type: keyof ServerMessages, payload: any, requestId?: string, timestamp: number}} message */
	#handleMessage({ type, payload, requestId, timestamp }) {
		// Messages may come late, never early: the largest difference is the best.
		this.#clockOffset = Math.max(this.#clockOffset, timestamp - Date.now());
		// A dead connection is noticed in half of the grace: the rest is for coming back.
		this.#setTimer("activity", Math.min(this.#heartbeat / 2, this.#grace / 3), () => {
			this.#ping();
			this.#expectActivity(Math.min(TIMEOUT, Math.max(MIN_TIMEOUT, this.#grace / 6)));
		});
		if (!UNCOUNTED.has(type)) this.#window.received++;
		if (this.#isCallStale && type !== "existing-peers" && type !== "call-state") this.#setCall({});
		if (type === "error" && requestId === HELLO_ID) return this.#handleHelloError(payload);
		if (Object.hasOwn(this.#handlers, type)) this.#handlers[type]?.(payload);
		if (type !== "signal" && type !== "pong") this.#changed();
		if (requestId) this.#settleRequest(requestId, payload, type === "error");
		if (this.#state === "online") this.#acknowledge();
	}

	/** @param {string} requestId @param {any} answer @param {boolean} isRefusal */
	#settleRequest(requestId, answer, isRefusal) {
		const request = this.#requests.get(requestId);
		if (!request) return;
		this.#requests.delete(requestId);
		this.#window.confirm(request.message);
		this.#flush();
		if (isRefusal) request.reject(new RefusedError(answer));
		else request.resolve(answer);
	}

	/** @param {Error} error @param {(message: SentMessage) => boolean} [isAffected] */
	#rejectRequests(error, isAffected = () => true) {
		for (const [requestId, { message, reject }] of [...this.#requests]) {
			if (isAffected(message) && this.#requests.delete(requestId)) reject(error);
		}
	}

	/** By the type of message. @type {{[K in keyof ServerMessages]?: (payload: ServerMessages[K]) => void}} */
	#handlers = {
		"connection-established": ({ userId }) => (this.#connectionId = userId),
		welcome: (welcome) => this.#welcome(welcome),
		resumed: (resumed) => this.#resume(resumed),
		"server-draining": ({ reconnectInMs }) => {
			this.#serverDelay = reconnectInMs;
			this.#emit("draining", { reconnectInMs });
		},

		"group-created": (group) => this.#setGroup(group),
		"group-joined": (group) => this.#setGroup(group),
		"group-left": () => this.#leaveGroup(),
		"user-joined": ({ user }) => {
			this.group?.members.set(user.id, user);
			this.#emit("member-joined", { member: user });
		},
		"user-left": ({ userId, reason }) => {
			const member = this.#member(userId);
			this.group?.members.delete(userId);
			if (member) this.#emit("member-left", { member, reason });
		},
		"member-role-changed": ({ userId, role }) => {
			const member = userId === this.userId ? this.group?.me : this.#member(userId);
			if (member) this.#emit("member-role", { member: Object.assign(member, { role }) });
		},
		"group-updated": ({ groupName, settings }) => {
			if (this.group) Object.assign(this.group, { name: groupName, settings });
		},
		"lobby-waiting": (waiting) => this.#emit("lobby", waiting),
		"lobby-denied": () => {
			this.#lobby?.reject(new Error("You were not let in."));
			this.#lobby = null;
		},
		kicked: (kicked) => this.#handleRemoved(kicked),
		"group-ended": (ended) => this.#handleRemoved(ended),
		"member-status": ({ userId, status, until }) => {
			const member = this.#member(userId);
			if (!member) return;
			Object.assign(member, { until, status: status === "away" ? status : undefined });
			this.#emit("member-status", { member });
		},
		"peer-joined": ({ peerId, username }) => {
			const members = [...(this.group?.members.values() ?? [])];
			Object.assign(members.find((member) => member.username === username) ?? {}, { peerId });
		},

		"call-state": (state) => this.#setCall(state),
		"call-joined": ({ participants }) => {
			this.meshPlan = null;
			this.#setParticipants([...participants, { userId: this.userId ?? "", ...this.#media }]);
		},
		"call-left": () => void this.call.participants.delete(this.userId ?? ""),
		"participant-joined": ({ participant }) => {
			this.call.participants.set(participant.userId, participant);
			this.#emit("participant-joined", { participant });
		},
		"participant-left": (left) => this.#handleParticipantLeft(left),
		"peer-revoked": (revoked) => this.#handleParticipantLeft(revoked),
		"stop-requested": (asked) => this.#emit("stop-requested", asked),
		"call-ended": (ended) => {
			this.#setParticipants([]);
			this.#emit("call-ended", ended);
		},
		"participant-media": (participant) => {
			this.call.participants.set(participant.userId, participant);
			this.#emit("participant-media", { participant });
		},
		ringing: ({ rings }) => {
			for (const ring of rings) this.call.outgoing.set(ring.to, ring);
		},
		"incoming-ring": (ring) => this.#addIncomingRing(ring),
		"ring-ended": (ended) => this.#endRing(ended),
		signal: (signal) => this.#emit("signal", signal),
		"mesh-plan": (plan) => {
			if (plan.epoch < (this.meshPlan?.epoch ?? 0)) return; // it was on its way when we came back
			this.meshPlan = plan;
			this.#emit("mesh-plan", plan);
		},
		"token-expiring": (expiring) => {
			this.#emit("token-expiring", expiring);
			if (typeof this.#token === "function") this.#withToken((token) => void this.refreshToken(token).catch(() => {}));
		},
		"ice-servers": (servers) => this.#emit("ice-servers", servers),
	};

	// --- the session ---

	/** @param {ServerMessages["welcome"]} welcome */
	#welcome({ sessionId, resumeToken, graceSeconds, heartbeat, limits }) {
		this.#session = { sessionId, resumeToken };
		this.#grace = 1000 * graceSeconds;
		this.#heartbeat = heartbeat.intervalMs;
		this.limits = limits;
		if (!this.#isResuming || this.#isReloaded) this.#setRates(limits); // no resume brings a new one
		if (this.#isResuming) return; // `resumed` follows
		this.userId = this.#connectionId;
		const { groupId, groupName } = this.#groupToSave;
		if (this.#isSessionLost) this.#clearGroup();
		this.#goOnline();
		if (this.#isSessionLost) this.#emit("session-lost", { groupId, groupName });
		this.#isSessionLost = false;
	}

	/** @param {ServerMessages["resumed"]} resumed */
	#resume(resumed) {
		this.#window.resume(resumed, this.#isReloaded);
		this.#isReloaded = false;
		this.userId = resumed.userId;
		if (!resumed.recovered) this.#handleGap(resumed);
		this.#write("ack", { received: this.#window.received }); // the token before is worthless now
		this.#goOnline();
		this.#emit("resumed", { recovered: resumed.recovered });
	}

	/** The missed messages are not sent again, and the answers among them neither. @param {ServerMessages["resumed"]} resumed */
	#handleGap({ groupId }) {
		const error = new RefusedError({ code: "ANSWER_LOST", message: "The answer was lost with the connection" });
		this.#rejectRequests(error, (message) => !this.#window.isUnconfirmed(message));
		if (groupId !== this.group?.id) this.#leaveGroup();
	}

	#goOnline() {
		this.#attempt = 0;
		this.#connectTimes = [...this.#connectTimes, performance.now() - this.#attemptedAt].slice(-3);
		this.#timers.ack = setInterval(() => this.#acknowledge(1), ACK_INTERVAL);
		this.#setState("online");
		if (document.hidden) this.#showVisibility(); // a resume counts as being looked at
		// Who is lost waits no longer, and asks again.
		if (this.#lobby) this.request("join-group", this.#lobby.wanted).catch(this.#lobby.reject);
		this.#flush();
	}

	/** @param {ServerMessages["error"]} error */
	#handleHelloError(error) {
		if (error.code === "RATE_LIMITED" || error.code === "TRY_AGAIN") {
			this.#serverDelay = error.details?.retryAfterMs ?? 0;
			return this.#abandon();
		}
		const isTokenBad = error.code === "TOKEN_INVALID";
		if (isTokenBad || !this.#isResuming) {
			this.#socket?.close(AWAY);
			this.#detachSocket();
			// Else this server has no sessions.
			return this.#end(isTokenBad ? CloseCode.TOKEN_OVER : CloseCode.PROTOCOL_ERROR, error.message);
		}
		this.#session = null;
		this.#isReloaded = false;
		this.#isSessionLost = true;
		this.#rejectRequests(new RefusedError(error));
		this.#window = new SessionWindow();
		this.#sendHello();
	}

	/** Clear group and call without events: nobody has left, and media go on from browser to browser. */
	#clearGroup() {
		this.#groupToSave = {};
		this.group = null;
		this.call = emptyCall();
	}

	// --- the group ---

	/** Take the whole of it, after a join or a resume. @param {ServerMessages["group-created"] & Partial<ServerMessages["group-joined"]>} group */
	#setGroup({ groupId, groupName, user, members = [], settings }) {
		if (this.group?.id !== groupId) this.#leaveGroup();
		this.#lobby?.resolve();
		this.#lobby = null;
		const before = this.group?.members;
		const after = mapBy(members, ({ id }) => id);
		this.group = { id: groupId, name: groupName, me: user, members: after, settings };
		this.#groupToSave = { groupId, groupName, username: user.username };
		for (const member of notIn(after, before)) this.#emit("member-left", { member, reason: "left" });
		if (before) for (const member of notIn(before, after)) this.#emit("member-joined", { member });
		const { participants, incoming, outgoing } = this.call;
		this.#isCallStale = participants.size + incoming.size + outgoing.size > 0;
		if (this.#isCallStale) this.#ping(); // its pong comes behind `call-state`, or in its place
	}

	#leaveGroup() {
		if (!this.group) return;
		this.#setCall({});
		this.group = null;
		this.#groupToSave = {};
	}

	/** @param {ServerMessages["kicked"] | ServerMessages["group-ended"]} removed */
	#handleRemoved(removed) {
		if (this.group?.id !== removed.groupId) return;
		this.#leaveGroup();
		this.#emit("removed", removed);
	}

	/** @param {string} userId */
	#member(userId) {
		return this.group?.members.get(userId);
	}

	// --- the call ---

	/**
	 * Take the whole of it, with events for the differences.
	 * @param {Partial<ServerMessages["call-state"]>} state
	 */
	#setCall({ participants = [], rings = [], recentRings = [] }) {
		this.#isCallStale = false;
		this.#setParticipants(participants);
		const known = [...this.call.incoming.values(), ...this.call.outgoing.values()];
		for (const ring of known) {
			if (rings.some(isSameRing(ring))) continue;
			const ended = recentRings.findLast(isSameRing(ring)); // an unknown outcome is taken for "missed"
			this.#endRing(ended ?? { from: ring.from, to: ring.to, outcome: "missed", endedAt: this.serverNow() });
		}
		for (const ring of rings) if (!known.some(isSameRing(ring))) this.#addRing(ring);
		this.call.recent = recentRings;
	}

	/** @param {Participant[]} participants */
	#setParticipants(participants) {
		const before = this.call.participants;
		const after = (this.call.participants = mapBy(participants, ({ userId }) => userId));
		for (const { userId } of notIn(after, before))
			if (userId !== this.userId) this.#emit("participant-left", { userId });
		for (const participant of notIn(before, after))
			if (participant.userId !== this.userId) this.#emit("participant-joined", { participant });
	}

	/** @param {{userId: string}} participant */
	#handleParticipantLeft({ userId }) {
		if (this.call.participants.delete(userId)) this.#emit("participant-left", { userId });
	}

	/** @param {Ring} ring */
	#addRing(ring) {
		if (ring.from === this.userId) this.call.outgoing.set(ring.to, ring);
		else this.#addIncomingRing({ ...ring, username: this.#member(ring.from)?.username ?? "" });
	}

	/** @param {ServerMessages["incoming-ring"]} ring */
	#addIncomingRing({ from, username, until }) {
		this.call.incoming.set(from, { from, to: this.userId ?? "", until, username });
		this.#emit("ring", { from, username, until });
	}

	/** @param {RingEnded} ended */
	#endRing({ from, to, outcome, endedAt }) {
		const ended = { from, to, outcome, endedAt };
		if (to === this.userId) this.call.incoming.delete(from);
		else this.call.outgoing.delete(to);
		this.call.recent = [...this.call.recent, ended].slice(-RECENT_RINGS);
		this.#emit("ring-ended", ended);
	}

	// --- events ---

	/** @param {State} state */
	#setState(state) {
		if (state === this.#state) return;
		this.#state = state;
		this.#emit("state", { state });
		this.#changed();
	}

	/** @template {keyof Events} K @param {K} type @param {Events[K]} detail */
	#emit(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}

	/** Emit one event for all changes of this moment. */
	#changed() {
		if (this.#willChange) return;
		this.#willChange = true;
		queueMicrotask(() => {
			this.#willChange = false;
			this.#emit("change", {});
		});
	}
}
