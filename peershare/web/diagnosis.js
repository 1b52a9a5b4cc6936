/**
 * Why two people in a call have no connection: a code, and a sentence. Pure: it decides by facts, and asks no browser.
 *
 * Each page knows only what its own browser has gathered. Pages tell each other (`gathered` in a signal), without
 * addresses: so it can be said whose network is in the way.
 * @import {Diagnosis, DiagnosisReason, Facts, Gathered, Side, Way} from "./types"
 */

/** @type {Way[]} */
const UDP = ["stun", "turn/udp"];
/** @type {Way[]} */
const TURN = ["turn/udp", "turn/tcp", "turn/web"];

/** @param {Gathered | null} gathered @param {Way[]} ways */
const asks = (gathered, ways) => ways.some((way) => gathered?.[way]);

/** @param {Gathered | null} gathered @param {Way[]} ways */
const has = (gathered, ways) => ways.some((way) => gathered?.[way] === "found");

/** @param {Gathered} gathered */
const blocksUdp = (gathered) => asks(gathered, UDP) && !has(gathered, UDP);

/** @param {Gathered} gathered */
const hasRelay = (gathered) => has(gathered, TURN);

/** @param {Gathered} gathered */
const isCutOff = (gathered) => !hasRelay(gathered) && blocksUdp(gathered);

/** The server's TURN takes TCP, but not on a port of the web. @param {Gathered} gathered */
const lacksWeb = (gathered) => asks(gathered, ["turn/tcp"]) && !asks(gathered, ["turn/web"]);

/** By a TURN server's error code. @param {Gathered} gathered */
const isRefused = (gathered) => !hasRelay(gathered) && TURN.some((way) => /^[45]/.test(gathered[way] ?? ""));

/** @param {Gathered} gathered */
const usesTcp = (gathered) => blocksUdp(gathered) && has(gathered, ["turn/tcp", "turn/web"]);

/** @param {Gathered} gathered */
const usesWeb = (gathered) => usesTcp(gathered) && asks(gathered, ["turn/tcp"]) && !has(gathered, ["turn/tcp"]);

/** The side of which it is true. @param {Facts} facts @param {(gathered: Gathered) => boolean} test @returns {Side | false} */
function sideWith({ mine, theirs }, test) {
	const isTheirs = theirs !== null && test(theirs);
	if (test(mine)) return isTheirs ? "both" : "you";
	return isTheirs && "them";
}

/**
 * The first that holds is the reason. What has not answered until a pair has failed counts as no answer.
 * @type {[DiagnosisReason, (facts: Facts) => Side | boolean][]}
 */
const RULES = [
	["network-changed", ({ isOnline }) => !isOnline && "you"],
	["signaling-lost", ({ lost }) => lost],
	["peer-silent", ({ isAnswered }) => !isAnswered && "them"],
	["no-candidates", (facts) => sideWith(facts, (it) => asks(it, ["host"]) && !has(it, ["host", "stun", ...TURN]))],
	["browser-refused", ({ isNegotiated }) => !isNegotiated],
	["dtls-failed", ({ hasPath }) => hasPath],
	// Without TURN.
	["peer-udp-blocked-no-relay", (facts) => !asks(facts.mine, TURN) && sideWith(facts, blocksUdp) === "them" && "them"],
	["udp-blocked-no-relay", (facts) => !asks(facts.mine, TURN) && sideWith(facts, blocksUdp)],
	["no-relay", ({ mine }) => !asks(mine, TURN)],
	// With TURN. One relay is enough for two, unless the other side can't send UDP to it.
	["relay-refused", (facts) => sideWith(facts, isRefused)],
	// The relay runs, since it answered one of the two.
	["web-only", (facts) => lacksWeb(facts.mine) && !!sideWith(facts, hasRelay) && sideWith(facts, isCutOff)],
	["relay-unreachable", (facts) => sideWith(facts, isCutOff)],
	[
		"relay-unreachable",
		(facts) => (!facts.theirs || !hasRelay(facts.theirs)) && sideWith(facts, (it) => !hasRelay(it)),
	],
	["relay-silent", ({ theirs }) => theirs !== null],
	["unknown", () => true],
];

/** @param {Facts} facts of a pair that has failed @returns {Diagnosis} */
export function diagnose(facts) {
	for (const [reason, holds] of RULES) {
		const side = holds(facts);
		if (side) return { reason, side: side === true ? "both" : side };
	}
	throw new Error("The last rule always holds.");
}

/** Why a pair is connected, but by TCP. @param {Facts} facts @returns {Diagnosis | null} */
export function detour(facts) {
	const side = facts.isRelayed && sideWith(facts, usesTcp);
	return side ? { reason: "udp-blocked", side } : null;
}

/** Words about a side. @param {Side} side @param {string} name of the other */
function words(side, name) {
	const isBoth = side === "both";
	const whose = side === "you" ? "Your" : `${name}'s`;
	return {
		/** @param {string} thing */
		the: (thing) => (isBoth ? `Both ${thing}s` : `${whose} ${thing}`),
		s: isBoth ? "" : "s", // of the verb
		who: { you: "you", them: name, both: `you and ${name}` }[side],
	};
}

const TURN_ON = "and this server has no TURN. Ask the host to turn it on.";
const CHECK_TURN = "Ask the host to run “peershare check-turn”.";

/** @typedef {ReturnType<typeof words>} Words */

/** @param {string} _ @param {Words} words */
const udpBlockedNoRelay = (_, { the, s }) => `${the("network")} block${s} UDP, ${TURN_ON}`;

/** @type {Record<DiagnosisReason, (name: string, words: Words) => string>} */
const SENTENCES = {
	"network-changed": () => "Your device is offline. Connect it to a network.",
	"signaling-lost": (_, { the, s }) =>
		`${the("browser")} ha${s || "ve"} lost this server. The call goes on when it is back.`,
	"peer-silent": (name) => `${name}'s browser does not answer. Ask ${name} to reload the page.`,
	"no-candidates": (_, { the, s }) =>
		`${the("browser")} find${s} no network for calls. Turn off what blocks WebRTC: an extension, a VPN or a setting.`,
	"browser-refused": (name) => `Your browser and ${name}'s did not agree on a call. Update both, and reload the page.`,
	"dtls-failed": (name) => `${name} was reached, but encryption could not be set up. Try another network.`,
	"udp-blocked": (_, { the, s }) => `${the("network")} block${s} UDP, so the call goes by TCP, which may stutter.`,
	"udp-blocked-no-relay": udpBlockedNoRelay,
	"peer-udp-blocked-no-relay": udpBlockedNoRelay,
	"no-relay": (name) => `No direct way leads from your network to ${name}'s, ${TURN_ON}`,
	"relay-refused": (_, { who }) =>
		`The relay (TURN) refused ${who}: it is full, or has another password than this server. Try later. ${CHECK_TURN}`,
	"web-only": (_, { the, s }) =>
		`${the("firewall")} let${s} only web traffic through. Ask the host for TURN on port 443, or try another network.`,
	"relay-unreachable": (_, { who }) => `The relay (TURN) did not answer ${who}. ${CHECK_TURN}`,
	"relay-silent": () => `The relay (TURN) answers, but passes nothing on. ${CHECK_TURN}`,
	unknown: (name) => `No way to ${name} was found in time. Try again, or try another network.`,
};

/** The reason as one sentence, and what to do. @param {Diagnosis} diagnosis @param {string} name of the other */
export const sentence = ({ reason, side }, name) => SENTENCES[reason](name, words(side, name));

/** What is being tried, of a pair that is not connected yet. @param {Facts} facts @param {string} name of the other */
export function attempt(facts, name) {
	if (!facts.isOnline || facts.lost) return sentence(diagnose(facts), name);
	if (!facts.isAnswered) return `Waiting for ${name}'s browser…`;
	const side = sideWith(facts, usesTcp);
	const { the, s } = words(side || "you", name);
	if (side && sideWith(facts, usesWeb) === side)
		return `${the("firewall")} let${s} only web traffic through; connecting by TCP…`;
	if (side) return `${the("network")} block${s} UDP; connecting by TCP…`;
	return sideWith(facts, hasRelay) ? "Trying a relay…" : "Looking for a direct way…";
}
