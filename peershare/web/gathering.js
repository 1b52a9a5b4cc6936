/**
 * What a browser gathers for a connection: which ways lead to it, and which ICE servers did not answer. It holds no address.
 * @import {Gathered, Signal, Way} from "./types"
 * @import {Connection} from "./connection.js"
 */

/** @type {Way[]} */
export const WAYS = ["host", "stun", "turn/udp", "turn/tcp", "turn/web"];
export const NO_ANSWER = "701"; // W3C webrtc-pc, 4.8.3
const WEB_PORTS = ["80", "443"]; // which the strictest firewalls let through

/** @param {string} url of an ICE server (RFC 7064, 7065) @returns {Way} */
function wayOf(url) {
	if (url.startsWith("stun")) return "stun";
	if (!/^turns|transport=tcp/i.test(url) || /transport=udp/i.test(url)) return "turn/udp";
	return WEB_PORTS.includes(url.match(/:(\d+)(?:\?|$)/)?.[1] ?? "") ? "turn/web" : "turn/tcp";
}

/** @param {RTCIceCandidate} candidate @returns {Way} */
function wayTo({ type, url, relayProtocol }) {
	if (type === "relay") return url ? wayOf(url) : relayProtocol === "udp" ? "turn/udp" : "turn/tcp";
	return type === "host" ? "host" : "stun";
}

/** What another page tells, which may send anything. @param {any} data @returns {Gathered | null} */
export function readGathered(data) {
	if (typeof data !== "object" || data === null) return null;
	const ways = WAYS.filter((way) => /^(waiting|found|\d{3})$/.test(data[way]));
	return Object.fromEntries(ways.map((way) => [way, String(data[way])]));
}

/**
 * Note in `gathered` what a connection gathers, and call `changed`. What earlier connections noted stays until this one
 * knows more: an ICE server's silence shows after ten seconds, in which an attempt may be given up.
 * @param {RTCPeerConnection} pc @param {Gathered} gathered @param {() => void} changed
 */
export function watchGathering(pc, gathered, changed) {
	const { iceServers = [], iceTransportPolicy } = pc.getConfiguration();
	/** @type {Way[]} */
	const ways = iceServers.flatMap(({ urls }) => [urls].flat().map(wayOf));
	if (iceTransportPolicy !== "relay") ways.push("host");
	for (const way of ways) {
		const before = gathered[way] ?? "";
		gathered[way] = before === "waiting" ? NO_ANSWER : before || "waiting"; // not in the time of a whole attempt
	}
	/** @type {Set<Way>} */
	const found = new Set();
	/** @param {Way} way @param {string} value */
	const note = (way, value) => {
		if (value === "found") found.add(way);
		if (gathered[way] === value || (found.has(way) && value !== "found")) return;
		gathered[way] = value;
		changed();
	};
	pc.addEventListener("icecandidate", ({ candidate }) => candidate?.candidate && note(wayTo(candidate), "found"));
	pc.addEventListener("icecandidateerror", ({ url, errorCode }) => url && note(wayOf(url), String(errorCode)));
	pc.addEventListener("icegatheringstatechange", () => {
		if (pc.iceGatheringState !== "complete") return;
		// STUN that told nothing new has no candidate, and at the address of a TURN server no error either. Firefox has no errors.
		const reports = "onicecandidateerror" in pc;
		for (const way of ways) {
			if (gathered[way] !== "waiting") continue;
			const isKnown = reports && way === "stun" && [undefined, "found"].includes(gathered["turn/udp"]);
			note(way, isKnown ? "found" : NO_ANSWER);
		}
	});
}

const NOTHING = { isAnswered: false, isNegotiated: false, hasPath: false };

/** What tells why there is no connection to a peer: over all attempts since there was one, or since the user tried again. */
export class Evidence {
	/** By our browser. @type {Gathered} */
	mine = {};
	/** @type {Gathered | null} */
	theirs = null;
	seen = NOTHING;

	/** Follow this attempt as well. @param {Connection} connection @param {() => void} changed */
	follow(connection, changed) {
		const { pc } = connection;
		connection.gathered = this.mine;
		watchGathering(pc, this.mine, changed);
		pc.addEventListener("signalingstatechange", () => {
			if (pc.currentRemoteDescription) this.seen = { ...this.seen, isNegotiated: true };
		});
		pc.addEventListener("iceconnectionstatechange", () => {
			if (pc.iceConnectionState === "connected") this.seen = { ...this.seen, hasPath: true };
		});
	}

	/** @param {Signal} signal of the other side */
	hear({ gathered }) {
		this.seen = { ...this.seen, isAnswered: true };
		this.theirs = readGathered(gathered) ?? this.theirs;
	}

	/** Forget how far the attempts came: it is connected, or begins anew. */
	forget() {
		this.seen = NOTHING;
	}
}
