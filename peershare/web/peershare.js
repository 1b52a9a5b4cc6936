/**
 * PeerShare's signaling for any page: a session that comes back by itself, its group, its call.
 *
 * `Ledger` knows what both sides have counted, and what is to be said again; `Pace` how fast one may speak;
 * `PeerShare` holds one connection after another, and what is known of group and call. Nothing here knows of
 * WebRTC or of a page's looks. How to use it: docs/web-module.md. What it speaks: docs/protocol.md, docs/sessions.md.
 * @import {Ask, Call, EndedRing, Events, Group, Media, Member, Pair, Participant, Ring, Said, Saved, State, Target, Timer} from "./types"
 */

const MAX_UNCONFIRMED = 256; // as much as the server keeps in the other direction
const CONFIRM_EVERY = 25; // messages, after which each side learns how many have arrived
const WINDOW = 50; // that are not confirmed: what stalls on the way arrives in one moment
const ACK_INTERVAL = 10_000; // ms, after which something new is acknowledged
const PATIENCE = 10_000; // ms for a connection to open, and for a pong
const LEAST_PATIENCE = 2_000; // the same where the session is at stake: what was lost on the way does not come
const LONGER_PATIENCE = 4_000;
const IMPATIENCE = 3_000; // the same where there is a reason to doubt the connection, or to try anew
const PROBE_EVERY = 2_000; // ms, on average, while the server is away and somebody looks
const TOUCHES_APART = 1_000; // ms: not each of many touches is an attempt
const FIRST_WAIT = 500; // ms, a bound that doubles
const GRACE = 30_000; // ms for which the server remembers a session, until it has said so
const RECENT_RINGS = 500; // of a whole group; the server remembers less
const HELLO = "hello"; // its requestId; those of asks are numbers
const AGAIN = 4000; // a close code that means: away, not gone

const UNCOUNTED = new Set(["connection-established", "welcome", "resumed", "server-draining"]);

/**
 * A random time between 0 and a bound that doubles: "full jitter". @param {number} attempt the first is 0
 * @param {number} longest
 */
const fullJitter = (attempt, longest) => Math.random() * Math.min(longest, FIRST_WAIT * 2 ** attempt);

/** Whether to connect again after this close code: docs/protocol.md. @param {number} code */
const comesBack = (code) => (code >= 4000 ? code < 4500 : [1001, 1005, 1006, 1011, 1012, 1013, 1014].includes(code));

/** The server's answer was an `error`. `code` is one of docs/protocol.md's, or ANSWER_LOST. */
export class Refused extends Error {
	/** @param {{code: string, message: string, details?: Record<string, any>}} error */
	constructor({ code, message, details = {} }) {
		super(message);
		this.name = "Refused";
		this.code = code;
		this.details = details;
	}
}

/** What was said and may not have arrived, the oldest first, and how much was heard. */
class Ledger {
	received = 0;
	#acknowledged = 0;
	#confirmed = 0; // messages of ours that have arrived, from the session's beginning
	/** @type {Said[]} */
	#unconfirmed = [];
	#written = 0; // of those, on the connection of the moment

	/** @param {string} text */
	say(text) {
		if (this.#unconfirmed.length >= MAX_UNCONFIRMED) throw new RangeError("too much is waiting to be sent");
		const said = { text };
		this.#unconfirmed.push(said);
		return said;
	}

	get sent() {
		return this.#confirmed + this.#unconfirmed.length;
	}

	get hasUnwritten() {
		return this.#written < Math.min(this.#unconfirmed.length, WINDOW);
	}

	/** Whether what is written next is a `signal`, which the server counts apart. */
	get isSignalNext() {
		return this.#unconfirmed[this.#written].text.startsWith('{"type":"signal"');
	}

	/** What to write next. It counts as written. */
	next() {
		return this.#unconfirmed[this.#written++].text;
	}

	/** @param {Said} said */
	isUnconfirmed(said) {
		return this.#unconfirmed.includes(said);
	}

	/** This one has arrived, and with it all before. @param {Said} said */
	confirm(said) {
		this.#forget(this.#unconfirmed.indexOf(said) + 1);
	}

	/** @param {number} count */
	#forget(count) {
		this.#unconfirmed.splice(0, count);
		this.#confirmed += count;
		this.#written = Math.max(0, this.#written - count);
	}

	/**
	 * On another connection: what did not arrive is to be written again. If the page was reloaded, another one said
	 * what arrived. @param {{recovered: boolean, received: number}} resumed @param {boolean} isReloaded
	 */
	resume({ recovered, received }, isReloaded) {
		if (isReloaded) this.#confirmed = received;
		this.#forget(received - this.#confirmed);
		this.#written = 0;
		if (!recovered) this.received = this.#acknowledged = 0;
	}

	/** How many messages to acknowledge, if it is time to. @param {number} [atLeast] */
	ackDue(atLeast = CONFIRM_EVERY) {
		if (this.received - this.#acknowledged < atLeast) return null;
		return (this.#acknowledged = this.received);
	}
}

/**
 * Keeps below one of the server's rates: a refused `signal` would be lost. Half of its burst and four fifths of its
 * rate leave room for delays.
 */
class Pace {
	#gap; // ms between two messages
	#slack; // ms that one may be ahead
	#due = 0;

	/** @param {number} [rate] @param {number} [burst] */
	constructor(rate = 50, burst = 100) {
		this.#gap = 1250 / rate;
		this.#slack = (this.#gap * burst) / 2;
	}

	/** In how many ms one may speak. */
	get wait() {
		return Math.max(0, this.#due - performance.now() - this.#slack);
	}

	take() {
		this.#due = Math.max(this.#due, performance.now()) + this.#gap;
	}
}

/** @template T @param {T[]} items @param {(item: T) => string} key @returns {Map<string, T>} */
const mapBy = (items, key) => new Map(items.map((item) => [key(item), item]));

/** What of `others` is not in `map`. @template T @param {Map<string, T>} map @param {Map<string, T>} [others] */
const missing = (map, others = new Map()) => [...others].flatMap(([key, item]) => (map.has(key) ? [] : item));

/** @param {Pair} ring @returns {(other: Pair) => boolean} */
const isLike = (ring) => (other) => ring.from === other.from && ring.to === other.to;

/** @returns {Call} */
const noCall = () => ({ participants: new Map(), incoming: new Map(), outgoing: new Map(), recent: [] });

/** A session with a PeerShare server. */
export class PeerShare extends /** @type {new () => Target<Events>} */ (EventTarget) {
	/** @type {string | null} */
	userId = null;
	/** @type {Record<string, number>} the names and numbers of GET /api/limits, once they are known */
	limits = {};
	/** @type {Group | null} */
	group = null;
	/** @type {Call} */
	call = noCall();
	/** @type {number | null} ms since 1970: when it will be tried again */
	retryAt = null;
	/** Whether the server refuses the address of this page, as far as it tells. */
	isRefused = false;
	#wasOpen = false; // the last connection

	/** @type {State} */
	#state = "connecting";
	#url;
	#wait;
	/** @type {WebSocket | null} */
	#socket = null;
	#pace = new Pace();
	#signalPace = this.#pace;
	#ledger = new Ledger();
	/** @type {{sessionId: string, resumeToken: string} | null} */
	#session = null;
	/** @type {Partial<Saved>} of the group, also while it is not known yet */
	#remembered = {};
	/** @type {Map<string, Ask>} */
	#asks = new Map();
	#asked = 0;
	#media = { audio: false, video: false, screen: false }; // one's own, as the call was joined with
	#isReloaded = false; // the session was another page's, and this one knows nothing of it yet
	#isResuming = false; // what this connection's hello asked for
	#isLost = false; // the session was, and the page is to be told when there is another
	#ownId = ""; // of this connection, which counts if no session is resumed on it
	#isStale = false; // the call may be over: it is unless `call-state` follows
	#attempt = 0;
	#grace = GRACE;
	#connectedAt = -Infinity; // when there was a session last
	#took = [0]; // ms, each of the last three attempts until its session
	#pause = 0; // ms that the server asked for before it went
	#notBefore = 0; // by performance.now(): the end of that pause
	#triedAt = -Infinity; // when the last attempt began
	#wasSilent = false; // a probe had no answer, so that the next that has one is news
	#clockOffset = -Infinity; // ms by which the server's clock is ahead
	#heartbeat = 30_000; // ms between the server's own pings, which no page gets to see
	#willChange = false;
	#isGoing = false; // the page: then it is hidden as well, but not in the background
	/** @type {Record<string, Timer>} */
	#timers = {};
	#living = new AbortController();

	/**
	 * @param {string | URL} [url] of the WebSocket. By default that of the server from which this module came.
	 * @param {{saved?: Saved | null, wait?: (attempt: number, longest: number) => number}} [options] `saved`: what `save()` gave before
	 *   a reload. `wait`: how many ms from one attempt to connect again to the next, the first of which is 0.
	 */
	constructor(url = new URL("../ws", import.meta.url), { saved = null, wait = fullJitter } = {}) {
		super();
		this.#url = new URL(url, globalThis.location?.href);
		this.#url.protocol = this.#url.protocol.replace("http", "ws");
		this.#wait = wait;
		if (saved) {
			const { sessionId, resumeToken, ...group } = saved;
			this.#session = { sessionId, resumeToken };
			this.#remembered = group;
			this.#isReloaded = true;
			this.#connectedAt = performance.now();
		}
	}

	// --- its life ---

	get state() {
		return this.#state;
	}

	/** Connect, and connect again whenever the connection is lost, until `close()`. */
	open() {
		if (this.#socket || this.#state !== "connecting") return;
		const { signal } = this.#living;
		for (const news of ["online", "offline"]) addEventListener(news, () => this.#doubt(), { signal });
		for (const touch of ["pointerdown", "keydown"])
			addEventListener(touch, () => this.#touched(), { signal, capture: true, passive: true });
		for (const way of ["pagehide", "pageshow"])
			addEventListener(way, ({ type }) => (this.#isGoing = type === "pagehide"), { signal });
		document.addEventListener("visibilitychange", () => this.#isGoing || this.#showVisibility(), { signal });
		this.#connect();
	}

	/** Leave the group and end the session, for good. */
	close() {
		if (this.#state === "closed") return;
		const socket = this.#socket;
		if (this.#state === "online" && this.group) this.#write({ type: "leave-group", payload: { userId: this.userId } });
		this.#letGo();
		socket?.close(1000);
		this.#end(1000, "closed");
	}

	/** Try to connect at once, if it is waited for: for the time of the next attempt, or for an answer to the last. */
	retryNow() {
		if (this.#state !== "reconnecting" || this.#isTrying) return;
		const socket = this.#socket;
		this.#letGo();
		socket?.close(AGAIN);
		this.#connect();
	}

	/** Whether an attempt has just begun, and may come to something. */
	get #isTrying() {
		return this.retryAt === null && performance.now() - this.#triedAt < IMPATIENCE;
	}

	/** What a page needs to go on with this session after a reload; for sessionStorage. @returns {Saved | null} */
	save() {
		return this.#session && this.#state !== "closed" ? { ...this.#session, ...this.#remembered } : null;
	}

	/** The server's clock, in ms since 1970: what `until` is measured by. */
	serverNow() {
		return Date.now() + (Number.isFinite(this.#clockOffset) ? this.#clockOffset : 0);
	}

	// --- what a member can do ---

	/**
	 * @param {string} groupName @param {string} username
	 * @param {string} [groupId] of a group that has ended, to open it again, or to join whoever has done so
	 * @returns {Promise<Group>}
	 */
	async createGroup(groupName, username, groupId) {
		await this.#ask("create-group", { groupName, username, groupId });
		return /** @type {Group} */ (this.group);
	}

	/** @param {string} groupId @param {string} username @returns {Promise<Group>} */
	async joinGroup(groupId, username) {
		await this.#ask("join-group", { groupId, username });
		return /** @type {Group} */ (this.group);
	}

	async leaveGroup() {
		if (this.group) await this.#ask("leave-group", { userId: this.userId });
	}

	get inCall() {
		return this.userId !== null && this.call.participants.has(this.userId);
	}

	/** @param {Media} media @returns {Promise<Participant[]>} the others, who are to be connected to */
	async joinCall({ audio, video, screen = false }) {
		this.#media = { audio, video, screen };
		return (await this.#ask("join-call", this.#media)).participants;
	}

	async leaveCall() {
		await this.#ask("leave-call");
	}

	/** @param {Media} media */
	async updateMedia({ audio, video, screen = false }) {
		await this.#ask("update-media", { audio, video, screen });
	}

	/** Ring one member, or all who are not in the call. @param {string} [userId] @returns {Promise<Ring[]>} */
	async ring(userId) {
		return (await this.#ask("ring", userId === undefined ? {} : { to: userId })).rings;
	}

	/** @param {string} from who rings */
	async declineRing(from) {
		await this.#ask("decline-ring", { from });
	}

	/** Say it to another member, now or when the connection is back. @param {string} to @param {any} data any JSON */
	signal(to, data) {
		this.#say("signal", { to, data });
	}

	// --- what is said ---

	/** @param {string} type @param {object} [payload] @returns {Promise<any>} the answer's payload */
	#ask(type, payload = {}) {
		return new Promise((resolve, reject) => {
			const requestId = `${++this.#asked}`;
			const said = this.#say(type, payload, requestId);
			this.#asks.set(requestId, { said, resolve, reject });
		});
	}

	/** @param {string} type @param {object} payload @param {string} [requestId] */
	#say(type, payload, requestId) {
		if (this.#state === "closed") throw new Error("closed");
		const text = JSON.stringify({ type, payload, requestId });
		const { messageSize = Infinity } = this.limits;
		if (text.length * 3 > messageSize && new TextEncoder().encode(text).length > messageSize)
			throw new RangeError("too long a message");
		const said = this.#ledger.say(text);
		queueMicrotask(() => this.#flush()); // once the caller has noted what it waits for
		if (this.#ledger.sent % CONFIRM_EVERY === 0) this.#ping();
		return said;
	}

	/** A pong says that all before its ping has arrived; the server has no other way to. */
	#ping() {
		this.#ask("ping").catch(() => {});
	}

	/** @param {Record<string, number>} limits */
	#setPace({ messageRate, messageBurst, signalRate, signalBurst }) {
		this.#pace = new Pace(messageRate, messageBurst);
		// An older server counts signals as messages.
		this.#signalPace = signalRate ? new Pace(signalRate, signalBurst) : this.#pace;
	}

	#flush() {
		while (this.#state === "online" && this.#ledger.hasUnwritten) {
			const pace = this.#ledger.isSignalNext ? this.#signalPace : this.#pace;
			if (pace.wait) return this.#later("pace", pace.wait, () => this.#flush());
			pace.take();
			this.#socket?.send(this.#ledger.next());
		}
	}

	/** Aside from the session: not counted, and not said again. @param {object} message */
	#write(message) {
		this.#pace.take();
		this.#socket?.send(JSON.stringify(message));
	}

	/** @param {number} [atLeast] */
	#acknowledge(atLeast) {
		const received = this.#ledger.ackDue(atLeast);
		if (received !== null) this.#write({ type: "ack", payload: { received } });
	}

	// --- one connection after another ---

	#connect() {
		clearTimeout(this.#timers.retry);
		this.retryAt = null;
		this.#triedAt = performance.now();
		this.#probeLater();
		const url = new URL(this.#url);
		// Who comes back is let in past the server's limits by address.
		if (this.#session) url.searchParams.set("session", this.#session.sessionId);
		const socket = (this.#socket = new WebSocket(url));
		this.#wasOpen = false;
		socket.onopen = () => this.#hello();
		socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
		socket.onclose = ({ code, reason }) => this.#lost(code, reason);
		// Slow networks get more, by what it usually takes; once may have been while the server stood still.
		const [first, usual = first] = this.#took.toSorted((one, other) => one - other);
		// And each attempt after one in vain: where all come back at once, who gives up makes a busy server busier.
		const patience = Math.max(Math.min(LEAST_PATIENCE * 1.5 ** this.#attempt, LONGER_PATIENCE), 2 * usual);
		this.#expectWord(this.#isAtStake ? Math.min(PATIENCE, patience) : PATIENCE);
	}

	/** Whether the server may still know the session. */
	get #isAtStake() {
		return performance.now() - this.#connectedAt < this.#grace;
	}

	#hello() {
		this.#wasOpen = true;
		this.isRefused = false;
		this.#isResuming = this.#session !== null;
		// A page that was reloaded has no state that what it missed could be added to: it asks for the whole.
		const received = this.#isReloaded ? Number.MAX_SAFE_INTEGER : this.#ledger.received;
		const resume = this.#session ? { ...this.#session, received } : undefined;
		this.#write({ type: "hello", payload: { protocol: 2, resume }, requestId: HELLO });
	}

	/** @param {number} code @param {string} [reason] */
	#lost(code, reason = "") {
		this.#letGo();
		if (!comesBack(code)) return this.#end(code, reason);
		const now = performance.now();
		if (this.#state === "online") this.#connectedAt = now;
		// No network that works for 3 s may be missed while the session is at stake.
		const longest = this.#isAtStake ? this.#grace / 12 : this.#grace / 3;
		const pause = this.#isAtStake ? Math.min(this.#pause, this.#grace / 3) : this.#pause;
		const since = Math.max(this.#connectedAt, this.#triedAt);
		const wait = pause + Math.max(0, since + this.#wait(this.#attempt++, longest) - now);
		this.#notBefore = performance.now() + pause;
		this.#pause = 0;
		this.retryAt = Date.now() + wait;
		this.#later("retry", wait, () => this.#connect());
		this.#probeLater();
		this.#setState("reconnecting");
		if (!this.#wasOpen) this.#askWhy();
	}

	/** The browser says only that there is no connection; the server judges a POST alike (docs/protocol.md). */
	async #askWhy() {
		const url = new URL(this.#url);
		url.protocol = url.protocol.replace("ws", "http");
		const options = /** @type {const} */ ({ method: "POST", cache: "no-store", credentials: "omit" });
		const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(IMPATIENCE) }).catch(() => null);
		const isRefused = answer?.status === 403 || answer?.status === 421;
		if (this.#state !== "reconnecting" || isRefused === this.isRefused) return;
		this.isRefused = isRefused;
		this.#emit("state", { state: this.#state });
	}

	/** There is a reason to believe that the server can be reached again. What it asked for is kept to. */
	#hurry() {
		if (performance.now() >= this.#notBefore) this.retryNow();
	}

	#touched() {
		if (performance.now() - this.#triedAt > TOUCHES_APART) this.#hurry();
	}

	#probeLater() {
		this.#later("probe", PROBE_EVERY * (0.5 + Math.random()), () => this.#probe());
	}

	/**
	 * Is the server back? That costs it less than an attempt to connect, and the bound between those doubles. Only the
	 * first answer after silence is news: a server that is there, and takes no connections, is not asked more often for it.
	 */
	async #probe() {
		if (document.hidden) return this.#probeLater();
		const answers = this.#state === "reconnecting" && (await this.#answers());
		if (this.#state !== "reconnecting") return;
		this.#probeLater();
		if (!answers) this.#wasSilent = true;
		if (!answers || !this.#wasSilent || this.#isTrying || performance.now() < this.#notBefore) return;
		this.#wasSilent = false;
		this.retryNow();
	}

	async #answers() {
		const url = new URL("api/health/live", this.#url);
		url.protocol = url.protocol.replace("ws", "http");
		// Another origin's answer can't be read; that there is one is enough.
		const options = /** @type {const} */ ({ mode: "no-cors", cache: "no-store", credentials: "omit" });
		const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(IMPATIENCE) }).catch(() => null);
		return answer !== null && answer.status < 500; // else it is a proxy that has one
	}

	/** A dead socket says that it is closed only after a minute: that is not waited for. */
	#abandon() {
		const socket = this.#socket;
		this.#letGo();
		socket?.close(AGAIN);
		this.#lost(1006);
	}

	#letGo() {
		if (this.#socket) this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
		this.#socket = null;
		for (const timer of Object.values(this.#timers)) clearTimeout(timer);
		this.#timers = {};
	}

	/** @param {number} code @param {string} reason */
	#end(code, reason) {
		this.retryAt = null;
		this.#living.abort();
		this.#setState("closed");
		this.#fail(new Error("closed"));
		this.#emit("closed", { code, reason });
	}

	/** Whatever comes within this time shows that the connection lives. @param {number} patience in ms */
	#expectWord(patience) {
		this.#later("silence", patience, () => this.#abandon());
	}

	/** The network was away, or the machine asleep: is the connection still there? */
	#doubt() {
		this.#hurry();
		if (this.#state !== "online") return;
		this.#ping();
		this.#expectWord(IMPATIENCE);
	}

	#showVisibility() {
		const visibility = document.hidden ? "background" : "foreground";
		if (this.#state !== "connecting") this.#say("client-state", { visibility });
		if (!document.hidden) this.#doubt();
	}

	/** @param {string} name @param {number} ms @param {() => void} then */
	#later(name, ms, then) {
		clearTimeout(this.#timers[name]);
		this.#timers[name] = setTimeout(then, ms);
	}

	// --- what is heard ---

	/** @param {{type: string, payload: any, requestId?: string, timestamp: number}} message */
	#hear({ type, payload, requestId, timestamp }) {
		// What was kept for us comes late, nothing comes early: the largest difference is the best.
		this.#clockOffset = Math.max(this.#clockOffset, timestamp - Date.now());
		// Half dead, and noticed in half of the grace: the rest is for coming back.
		this.#later("silence", Math.min(this.#heartbeat / 2, this.#grace / 3), () => {
			this.#ping();
			this.#expectWord(Math.min(PATIENCE, Math.max(LEAST_PATIENCE, this.#grace / 6)));
		});
		if (!UNCOUNTED.has(type)) this.#ledger.received++;
		if (this.#isStale && type !== "existing-peers" && type !== "call-state") this.#setCall({});
		if (type === "error" && requestId === HELLO) return this.#startAnew(payload);
		if (Object.hasOwn(this.#handlers, type)) this.#handlers[type](payload);
		if (type !== "signal" && type !== "pong") this.#changed();
		if (requestId) this.#settle(requestId, payload, type === "error");
		if (this.#state === "online") this.#acknowledge();
	}

	/** @param {string} requestId @param {any} answer @param {boolean} isRefusal */
	#settle(requestId, answer, isRefusal) {
		const ask = this.#asks.get(requestId);
		if (!ask) return;
		this.#asks.delete(requestId);
		this.#ledger.confirm(ask.said);
		this.#flush();
		if (isRefusal) ask.reject(new Refused(answer));
		else ask.resolve(answer);
	}

	/** Reject what is waited for. @param {Error} why @param {(said: Said) => boolean} [isConcerned] */
	#fail(why, isConcerned = () => true) {
		for (const [requestId, { said, reject }] of [...this.#asks]) {
			if (isConcerned(said) && this.#asks.delete(requestId)) reject(why);
		}
	}

	/** What each message means. @type {Record<string, (payload: any) => void>} */
	#handlers = {
		"connection-established": ({ userId }) => (this.#ownId = userId),
		welcome: (welcome) => this.#welcome(welcome),
		resumed: (resumed) => this.#resume(resumed),
		"server-draining": ({ reconnectInMs }) => {
			this.#pause = reconnectInMs;
			this.#emit("draining", { reconnectInMs });
		},

		"group-created": (group) => this.#enter(group),
		"group-joined": (group) => this.#enter(group),
		"group-left": () => this.#leave(),
		"user-joined": ({ user }) => {
			this.group?.members.set(user.id, user);
			this.#emit("member-joined", { member: user });
		},
		"user-left": ({ userId, reason }) => {
			const member = this.#member(userId);
			this.group?.members.delete(userId);
			if (member) this.#emit("member-left", { member, reason });
		},
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
		"call-joined": ({ participants }) =>
			this.#setParticipants([...participants, { userId: this.userId, ...this.#media }]),
		"call-left": () => this.call.participants.delete(this.userId ?? ""),
		"participant-joined": ({ participant }) => {
			this.call.participants.set(participant.userId, participant);
			this.#emit("participant-joined", { participant });
		},
		"participant-left": ({ userId }) => {
			if (this.call.participants.delete(userId)) this.#emit("participant-left", { userId });
		},
		"participant-media": (participant) => {
			this.call.participants.set(participant.userId, participant);
			this.#emit("participant-media", { participant });
		},
		ringing: ({ rings }) => {
			for (const ring of rings) this.call.outgoing.set(ring.to, ring);
		},
		"incoming-ring": ({ from, username, until }) => {
			this.call.incoming.set(from, { from, to: this.userId ?? "", until, username });
			this.#emit("ring", { from, username, until });
		},
		"ring-ended": ({ from, to, outcome, endedAt }) => {
			const ended = { from, to, outcome, endedAt };
			if (to === this.userId) this.call.incoming.delete(from);
			else this.call.outgoing.delete(to);
			this.call.recent = [...this.call.recent, ended].slice(-RECENT_RINGS);
			this.#emit("ring-ended", ended);
		},
		signal: (signal) => this.#emit("signal", signal),
	};

	// --- the session ---

	/** @param {any} welcome */
	#welcome({ sessionId, resumeToken, graceSeconds, heartbeat, limits }) {
		this.#session = { sessionId, resumeToken };
		this.#grace = 1000 * graceSeconds;
		this.#heartbeat = heartbeat.intervalMs;
		this.limits = limits;
		if (!this.#isResuming || this.#isReloaded) this.#setPace(limits); // no resume brings a new one
		if (this.#isResuming) return; // `resumed` follows
		this.userId = this.#ownId;
		const { groupId, groupName } = this.#remembered;
		if (this.#isLost) this.#forget();
		this.#goOnline();
		if (this.#isLost) this.#emit("session-lost", { groupId, groupName });
		this.#isLost = false;
	}

	/** @param {any} resumed */
	#resume(resumed) {
		this.#ledger.resume(resumed, this.#isReloaded);
		this.#isReloaded = false;
		this.userId = resumed.userId;
		if (!resumed.recovered) this.#catchUp(resumed);
		this.#write({ type: "ack", payload: { received: this.#ledger.received } }); // the token before is worthless now
		this.#goOnline();
		this.#emit("resumed", { recovered: resumed.recovered });
	}

	/** What was missed can't be said again: not the answers either. @param {{groupId?: string}} resumed */
	#catchUp({ groupId }) {
		const why = new Refused({ code: "ANSWER_LOST", message: "The answer was lost with the connection" });
		this.#fail(why, (said) => !this.#ledger.isUnconfirmed(said));
		if (groupId !== this.group?.id) this.#leave();
	}

	#goOnline() {
		this.#attempt = 0;
		this.#took = [...this.#took, performance.now() - this.#triedAt].slice(-3);
		this.#timers.ack = setInterval(() => this.#acknowledge(1), ACK_INTERVAL);
		this.#setState("online");
		if (document.hidden) this.#showVisibility(); // a resume counts as being looked at
		this.#flush();
	}

	/** The `hello` was refused. @param {any} error */
	#startAnew(error) {
		if (error.code === "RATE_LIMITED") {
			this.#pause = error.details?.retryAfterMs ?? 0;
			return this.#abandon();
		}
		if (!this.#isResuming) {
			this.#socket?.close(AGAIN);
			this.#letGo();
			return this.#end(1002, error.message); // this server knows of no sessions
		}
		this.#session = null;
		this.#isReloaded = false;
		this.#isLost = true;
		this.#fail(new Refused(error));
		this.#ledger = new Ledger();
		this.#hello();
	}

	/** Nobody has left: media go on, from browser to browser. So nothing is said of members and participants. */
	#forget() {
		this.#remembered = {};
		this.group = null;
		this.call = noCall();
	}

	// --- the group ---

	/** One's own, as it is: after a join, or a resume. @param {any} group */
	#enter({ groupId, groupName, user, members = [] }) {
		if (this.group?.id !== groupId) this.#leave();
		const before = this.group?.members;
		const after = mapBy(/** @type {Member[]} */ (members), ({ id }) => id);
		this.group = { id: groupId, name: groupName, me: user, members: after };
		this.#remembered = { groupId, groupName, username: user.username };
		for (const member of missing(after, before)) this.#emit("member-left", { member, reason: "left" });
		if (before) for (const member of missing(before, after)) this.#emit("member-joined", { member });
		const { participants, incoming, outgoing } = this.call;
		this.#isStale = participants.size + incoming.size + outgoing.size > 0;
		if (this.#isStale) this.#ping(); // its pong comes behind `call-state`, or in its place
	}

	#leave() {
		if (!this.group) return;
		this.#setCall({});
		this.group = null;
		this.#remembered = {};
	}

	/** @param {string} userId */
	#member(userId) {
		return this.group?.members.get(userId);
	}

	// --- the call ---

	/**
	 * All of it; what is news is told.
	 * @param {{participants?: Participant[], rings?: Ring[], recentRings?: EndedRing[]}} state
	 */
	#setCall({ participants = [], rings = [], recentRings = [] }) {
		this.#isStale = false;
		this.#setParticipants(participants);
		const known = [...this.call.incoming.values(), ...this.call.outgoing.values()];
		for (const ring of known) {
			if (rings.some(isLike(ring))) continue;
			const ended = recentRings.findLast(isLike(ring)); // where nobody says how it ended, that is guessed
			this.#handlers["ring-ended"](ended ?? { ...ring, outcome: "missed", endedAt: this.serverNow() });
		}
		for (const ring of rings) if (!known.some(isLike(ring))) this.#addRing(ring);
		this.call.recent = recentRings;
	}

	/** @param {Participant[]} participants */
	#setParticipants(participants) {
		const before = this.call.participants;
		const after = (this.call.participants = mapBy(participants, ({ userId }) => userId));
		for (const { userId } of missing(after, before))
			if (userId !== this.userId) this.#emit("participant-left", { userId });
		for (const participant of missing(before, after))
			if (participant.userId !== this.userId) this.#emit("participant-joined", { participant });
	}

	/** @param {Ring} ring */
	#addRing(ring) {
		if (ring.from === this.userId) this.call.outgoing.set(ring.to, ring);
		else this.#handlers["incoming-ring"]({ ...ring, username: this.#member(ring.from)?.username ?? "" });
	}

	// --- what is told to the page ---

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

	/** Once for all that changes in one go. */
	#changed() {
		if (this.#willChange) return;
		this.#willChange = true;
		queueMicrotask(() => {
			this.#willChange = false;
			this.#emit("change", {});
		});
	}
}
