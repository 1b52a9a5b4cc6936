/**
 * What a page sends in a call: to each peer as much video as the server's mesh plan and the line allow.
 *
 * Audio goes first. Within the plan, browsers adapt by themselves; where a line does not take even the smallest picture
 * beside the audio, video is paused, before the audio breaks. `followLink` and `followLine` decide, once a second, and are pure.
 * @import {Line, Link, LinkMeasure, Loss, Part, PeerPlan, PeerShare, Timer, Track, View} from "./types"
 * @import {Connection} from "./connection.js"
 * @import {Peer} from "./peer.js"
 */

import { isScreen } from "./connection.js";

const AUDIO = 64_000; // bit/s, as the server reserves
const LEAST_VIDEO = 100_000; // bit/s of the smallest picture
const MAX_LOSS = 0.1; // of the audio: Opus conceals as much as this
const WEAK_SECONDS = 3; // until something is done about it
const FIRST_WAIT = 10; // seconds without loss, until paused video is tried again; they double
const LONGEST_WAIT = 80;
const STABLE_SECONDS = 30; // with video, until the next pause begins with FIRST_WAIT
const NARROW = 0.7; // a link that takes less of its plan is narrow
const MARGIN = 0.9; // of what is measured, since it varies
const GROWTH = 1.5; // tried after a while
const WIDE = 6_000_000; // bit/s that need no word to the server
const FRESH = 10_000; // ms: while nothing is said, nobody reports
const TRIAL = 10; // seconds of video, new or again, in which a browser finds out what the link takes
const LAYOUT_DELAY = 500; // ms: changes of this time share one message
// In bit/s, shared by all: for a server that makes no plans.
const CAMERA = { perPeer: 1_500_000, total: 3_000_000 };
const SCREEN = { perPeer: 2_500_000, total: 6_000_000 };

/** @type {Link} */
export const NEW_LINK = { isPaused: false, weak: 0, good: 0, wait: FIRST_WAIT, trial: TRIAL };
/** @type {Loss} */
export const NEW_LOSS = { at: 0, last: 0, share: 0 };
/** @type {Line} */
export const NEW_LINE = { upload: undefined, weak: 0, good: 0, wait: FIRST_WAIT };

/**
 * Whether video to one peer is paused, another second later. Without video nothing tells what a link would take: so it
 * is tried after a time without loss, which doubles each time that it was in vain.
 * @param {Link} link @param {LinkMeasure} measure @returns {Link}
 */
export function followLink({ isPaused, weak, good, wait, trial }, { available, loss }) {
	const isNarrow = !isPaused && trial === 0 && available < AUDIO + LEAST_VIDEO;
	[weak, good] = loss > MAX_LOSS || isNarrow ? [weak + 1, 0] : [0, good + 1];
	if (isPaused && good >= wait) return { ...NEW_LINK, wait: Math.min(LONGEST_WAIT, 2 * wait) };
	if (!isPaused && weak >= WEAK_SECONDS) return { isPaused: true, weak: 0, good: 0, wait, trial: 0 };
	const isStable = !isPaused && good >= STABLE_SECONDS;
	return { isPaused, weak, good, wait: isStable ? FIRST_WAIT : wait, trial: Math.max(0, trial - 1) };
}

/**
 * What our line takes, another second later: undefined while it is enough. It is little where most links are narrow.
 * @param {Line} line @param {LinkMeasure[]} links those with video, and those without since our line is narrow @returns {Line}
 */
export function followLine({ upload, weak, good, wait }, links) {
	if (!links.length) return { upload, weak: 0, good: 0, wait };
	const narrow = links.filter(({ available, loss, wanted }) => loss > MAX_LOSS || available < AUDIO + NARROW * wanted);
	[weak, good] = narrow.length > links.length / 2 ? [weak + 1, 0] : [0, good + 1];
	if (weak >= WEAK_SECONDS) {
		const sum = links.reduce((total, { available, wanted }) => total + Math.min(available, AUDIO + wanted), 0);
		return { upload: Math.round(MARGIN * sum), weak: 0, good: 0, wait: Math.min(LONGEST_WAIT, 2 * wait) };
	}
	if (upload === undefined || good < wait) return { upload, weak, good, wait };
	const sum = links.reduce((total, { available }) => total + available, 0);
	const grown = Math.round(Math.max(GROWTH * upload, MARGIN * sum));
	return { upload: grown < WIDE ? grown : undefined, weak: 0, good: 0, wait };
}

/**
 * How much audio is lost, by what the other side reports every five seconds: the lesser share of its last two reports,
 * since one alone is of a break that may be over.
 * @param {Loss} loss @param {number} at the time of the last report @param {number} last its share @returns {Loss}
 */
export const followLoss = (loss, at, last) => (at === loss.at ? loss : { at, last, share: Math.min(loss.last, last) });

/**
 * @param {RTCRtpSender | undefined} sender @param {Partial<RTCRtpEncodingParameters>} encoding
 * @param {RTCDegradationPreference} [degradationPreference]
 */
async function setParameters(sender, encoding, degradationPreference) {
	const parameters = sender?.getParameters();
	if (!sender || !parameters?.encodings?.length) return;
	Object.assign(parameters.encodings[0], encoding);
	if (degradationPreference) Object.assign(parameters, { degradationPreference });
	await sender.setParameters(parameters);
}

/** One connection's video: what was measured, and what was set. */
class Outgoing {
	link = NEW_LINK;
	#loss = NEW_LOSS;
	#connectedAt = 0;
	/** True if the peer knows that it is paused. */
	isTold = false;
	#set = "";
	#turn = Promise.resolve();
	#connection;

	/** @param {Connection} connection */
	constructor(connection) {
		this.#connection = connection;
	}

	get track() {
		return this.#connection.senders.get("video")?.track ?? null;
	}

	/**
	 * Follow the measurements of a second. After a break browsers find out anew what the link takes.
	 * @param {RTCStatsReport} report @param {number} wanted bit/s @param {number} connectedAt
	 * @param {boolean} mayTry whether paused video may be tried again @returns {LinkMeasure}
	 */
	follow(report, wanted, connectedAt, mayTry) {
		if (connectedAt !== this.#connectedAt) this.link = { ...this.link, trial: TRIAL };
		this.#connectedAt = connectedAt;
		let [available, now] = [Infinity, 0];
		report.forEach((stat) => {
			now = Math.max(now, stat.timestamp);
			if (stat.type === "candidate-pair" && stat.nominated) available = stat.availableOutgoingBitrate ?? available;
			if (stat.type !== "remote-inbound-rtp" || stat.kind !== "audio") return;
			this.#loss = followLoss(this.#loss, stat.timestamp, stat.fractionLost ?? 0);
		});
		const { at, last, share } = this.#loss;
		const loss = now - at > FRESH ? 0 : this.isTried ? last : share;
		const measure = { available, loss, wanted };
		const link = followLink(this.link, measure);
		if (mayTry || link.isPaused || !this.link.isPaused) this.link = link;
		return measure;
	}

	/** True while paused video is tried again: alone, with little, and until the first report of lost audio. */
	get isTried() {
		return this.link.trial && this.link.wait > FIRST_WAIT;
	}

	/** One change after the other, as setParameters() needs it. @param {Part} part of the plan */
	apply({ video, maxVideoHeight, maxBitrate }) {
		const { height = maxVideoHeight } = this.track?.getSettings() ?? {};
		const active = video && !this.link.isPaused;
		if (this.isTried) maxBitrate = Math.min(maxBitrate, LEAST_VIDEO);
		const scaleResolutionDownBy = active ? Math.max(1, height / maxVideoHeight) : 1;
		const wanted = { active, scaleResolutionDownBy, ...(active && { maxBitrate }) };
		const preference = isScreen(this.track) ? "maintain-resolution" : "balanced";
		const set = JSON.stringify([wanted, preference]);
		if (set === this.#set) return;
		this.#set = set;
		this.#turn = this.#turn.then(() => this.#apply(wanted, preference)).catch(() => {}); // not every browser can
	}

	/** @param {Partial<RTCRtpEncodingParameters>} video @param {RTCDegradationPreference} preference */
	async #apply(video, preference) {
		const { senders } = this.#connection;
		await setParameters(senders.get("video"), { ...video, priority: "low", networkPriority: "low" }, preference);
		await setParameters(senders.get("audio"), { priority: "high", networkPriority: "high" });
	}
}

/** The video of all connections of a mesh. */
export class Sending {
	#client;
	#peers;
	#tellPause;
	/** @type {Map<string, PeerPlan>} */
	#plans = new Map();
	/** @type {WeakMap<Connection, Outgoing>} */
	#known = new WeakMap();
	#line = NEW_LINE;
	/** @type {View[]} */
	#views = [];
	#layout = ""; // as the server was told
	/** @type {Timer | undefined} */
	#timer;

	/**
	 * @param {PeerShare} client @param {Map<string, Peer>} peers
	 * @param {(userId: string, isPaused: boolean) => void} tellPause to let a peer know @param {AbortSignal} signal to end
	 */
	constructor(client, peers, tellPause, signal) {
		this.#client = client;
		this.#peers = peers;
		this.#tellPause = tellPause;
		this.#takePlan();
		client.addEventListener("mesh-plan", () => this.#takePlan(), { signal });
		client.addEventListener("state", () => this.#tellLayout(), { signal });
		client.addEventListener("resumed", () => this.#forgetLayout(), { signal });
		signal.addEventListener("abort", () => clearTimeout(this.#timer));
	}

	/** Show the others with these heights from now on. @param {View[]} views */
	show(views) {
		this.#views = views;
		this.#tellLayout();
	}

	/** True if our line takes no video to anybody. */
	get isWeak() {
		const all = this.#all;
		return all.length > 0 && all.every(({ isPaused }) => isPaused);
	}

	/** Set all senders as they are to be now. */
	apply() {
		for (const { outgoing, plan } of this.#all) outgoing.apply(plan);
	}

	/** Follow the measurements of a second. @param {Map<string, RTCStatsReport>} reports by user ID */
	follow(reports) {
		const measures = this.#all.flatMap(({ userId, changedAt, outgoing, plan, isPaused }) => {
			const report = reports.get(userId);
			if (!report || !outgoing.track || !(plan.video || isPaused)) return []; // nobody looks
			const mayTry = !this.#all.some(({ outgoing }) => outgoing.isTried); // one alone, or all would lose audio
			const found = outgoing.follow(report, plan.maxBitrate, changedAt, mayTry);
			return outgoing.link.trial || outgoing.link.isPaused ? [] : [found];
		});
		this.#line = followLine(this.#line, measures);
		this.#tellLayout();
		this.apply();
		for (const { userId, connection, outgoing, isPaused } of this.#all) {
			if (isPaused === outgoing.isTold || connection.channel.readyState !== "open") continue;
			outgoing.isTold = isPaused;
			this.#tellPause(userId, isPaused);
		}
	}

	/** All connections, each with what is planned for it. */
	get #all() {
		return [...this.#peers].flatMap(([userId, { connection, changedAt }]) => {
			if (!connection) return [];
			const outgoing = this.#known.get(connection) ?? new Outgoing(connection);
			this.#known.set(connection, outgoing);
			const plan = this.#plans.get(userId) ?? this.#shareFor(outgoing.track);
			// A plan without video is that of a line that takes too little, or of a page that does not show us.
			const isLeftOut = !plan.video && (this.#line.upload ?? Infinity) < this.#peers.size * (AUDIO + LEAST_VIDEO);
			const isPaused = outgoing.track !== null && (isLeftOut || outgoing.link.isPaused);
			return [{ userId, connection, changedAt, outgoing, plan, isPaused }];
		});
	}

	/** The plan where the server makes none. @param {Track} track @returns {Part} */
	#shareFor(track) {
		const { perPeer, total } = isScreen(track) ? SCREEN : CAMERA;
		return { video: true, maxVideoHeight: 1080, maxBitrate: Math.min(perPeer, total / this.#peers.size) };
	}

	#takePlan() {
		const { peers = [] } = this.#client.meshPlan ?? {};
		this.#plans = new Map(peers.map((plan) => [plan.userId, plan]));
		this.apply();
		this.#tellLayout();
	}

	/** The server may be another one, which does not know it. */
	#forgetLayout() {
		this.#layout = "";
		this.#tellLayout();
	}

	/** Tell the server what we show and what our line takes, in a while; and when it is back, if it is away. */
	#tellLayout() {
		this.#timer ??= setTimeout(() => {
			this.#timer = undefined;
			const views = this.#views.filter(({ userId }) => this.#peers.has(userId)); // other tiles are oneself, or ring
			const layout = JSON.stringify([views, this.#line.upload]);
			const { state, meshPlan } = this.#client;
			if (layout === this.#layout || state !== "online" || !meshPlan) return;
			this.#layout = layout;
			this.#client.updateLayout(views, this.#line.upload);
		}, LAYOUT_DELAY);
	}
}
