// Reports to the server on how the connections of a call have become: it counts them for its operator.

import { detour, diagnose } from "./diagnosis.js";

/** @import {Facts, LinkReport, Peer, PeerShare} from "./types" */

const STABLE_TIME = 2_000; // ms, after which a state is reported: a path that comes and goes makes few reports, and figures are there

/** What was reported of each peer. */
export class LinkReports {
	#client;
	/** @type {WeakMap<Peer, {state?: string, unseenTimes: number}>} */
	#reported = new WeakMap();

	/** @param {PeerShare} client */
	constructor(client) {
		this.#client = client;
	}

	/** Report a peer, if it has become something else. @param {Peer} peer @param {Facts} facts */
	update(peer, facts) {
		const { state, changedAt, unseenTimes } = peer;
		const before = this.#reported.get(peer) ?? { unseenTimes: 0 };
		const isBack = state === "connected" && unseenTimes > before.unseenTimes; // it was made anew for its picture
		const isOther = state !== before.state && (state !== "reconnecting" || before.state === "connected");
		const isNews = isBack || (isOther && state !== "connecting");
		if (!isNews || performance.now() - changedAt < STABLE_TIME || this.#client.state !== "online") return;
		this.#reported.set(peer, { state, unseenTimes: isBack ? unseenTimes : before.unseenTimes });
		const why = isBack ? { reason: /** @type {const} */ ("no-picture") } : reason(peer, facts);
		this.#client.reportLink({ userId: peer.userId, state, ...path(peer), ...figures(peer), ...why });
	}
}

/** @param {Peer} peer @returns {Pick<LinkReport, "localType" | "remoteType" | "protocol">} */
function path({ state, path: { selected } }) {
	if (state !== "connected" || !selected) return { localType: "none", remoteType: "none", protocol: "none" };
	const { local, remote } = selected;
	return { localType: local.type, remoteType: remote.type, protocol: local.relayProtocol ?? local.protocol };
}

/** @param {Peer} peer @returns {Pick<LinkReport, "rttMs" | "lossPercent">} */
function figures({ quality: { level, roundTrip, loss } }) {
	if (level === "unknown") return {};
	return { rttMs: Math.min(60_000, Math.round(roundTrip * 1000)), lossPercent: Math.round(loss * 100) };
}

/** @param {Peer} peer @param {Facts} facts @returns {Pick<LinkReport, "reason">} */
function reason({ state }, facts) {
	const found = state === "failed" ? diagnose(facts) : state === "connected" && detour(facts);
	return found ? { reason: found.reason } : {};
}
