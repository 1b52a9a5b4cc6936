// What the check has found, in sentences that say what to do. Nothing here asks the browser.

import { NO_WEBRTC, faultMessage } from "./media.js";

/** @import {CheckResults, CheckRow, CheckState, CheckedServer} from "./types" */

const WORKING = "Being checked…";
const CHECK_TURN = "Whoever runs this server can find out with: peershare check-turn.";

/** @type {Record<string, Omit<CheckRow, "name">>} */
const BROWSERS = {
	works: { state: "good", text: "It can make calls." },
	NoWebRTC: { state: "bad", text: NO_WEBRTC },
	Insecure: { state: "bad", text: faultMessage("Insecure", "") },
};
/** @type {Record<string, Omit<CheckRow, "name">>} */
const SESSIONS = {
	works: { state: "good", text: "It answers, by WebSocket." },
	refused: {
		state: "bad",
		text: "The server refuses the address of this page. Whoever runs it can allow it; its log says how.",
	},
	blocked: {
		state: "bad",
		text: "The server is there, but no WebSocket gets through: a proxy, or a security program on this device, stops it. Ask whoever runs this network, or try another.",
	},
	away: { state: "bad", text: "The server can't be reached. Is this device online?" },
	ended: { state: "bad", text: "The server ended the connection. Try again in a minute." },
};
/** Of errors of a TURN server (RFC 8656, section 19). @type {Record<number, string>} */
const REFUSALS = {
	401: `It refuses the password: TURN_SECRET is another there than here. ${CHECK_TURN}`,
	403: `It forbids this. ${CHECK_TURN}`,
	486: "This device has too many relays there. Try again in ten minutes.",
	508: "It has no relay free. Try again in ten minutes.",
};
const NONE =
	"This server has none, so calls fail where networks allow no direct way. Whoever runs it can turn it on: peershare serve --turn.";

/** The lines of the table. What is not known yet is being checked. @param {Partial<CheckResults>} results @returns {CheckRow[]} */
export function rowsOf({ browser, camera, microphone, session, servers, serversError = "" }) {
	return [
		row("Browser", browser && BROWSERS[browser]),
		row("Camera", camera === undefined ? undefined : deviceLine("camera", camera)),
		row("Microphone", microphone === undefined ? undefined : deviceLine("microphone", microphone)),
		row("Server", session && SESSIONS[session]),
		...serverRows(browser, session, servers, serversError),
	];
}

/** @param {string} name @param {Omit<CheckRow, "name">} [line] @returns {CheckRow} */
const row = (name, line = { state: "running", text: WORKING }) => ({ name, ...line });

/** @param {"camera" | "microphone"} device @param {string} found @returns {Omit<CheckRow, "name">} */
function deviceLine(device, found) {
	if (found === "works") return { state: "good", text: device === "camera" ? "It gives a picture." : "It hears you." };
	if (found === "unanswered")
		return {
			state: "bad",
			text: `You have not told the browser whether it may use the ${device}. Allow it, and try again.`,
		};
	if (found === "silent" && device === "camera")
		return {
			state: "bad",
			text: "It is on, but gives no picture. Is there a switch on it, or does another program use it?",
		};
	if (found === "silent")
		return {
			state: "unsure",
			text: "It is on, but nothing was heard. Try again, and say something. If the bar does not move, look for a switch on it, or choose another one.",
		};
	return { state: found === "NotFoundError" ? "unsure" : "bad", text: faultMessage(found, device) };
}

/**
 * @param {string | undefined} browser @param {string | undefined} session @param {CheckedServer[] | undefined} servers
 * @param {string} error @returns {CheckRow[]}
 */
function serverRows(browser, session, servers, error) {
	if (error) return [row("STUN and TURN", { state: "bad", text: `The server does not tell where they are: ${error}` })];
	if (browser === "NoWebRTC")
		return [row("STUN and TURN", { state: "unsure", text: "This browser can't check them." })];
	if (session && session !== "works")
		return [row("STUN and TURN", { state: "unsure", text: "They were not checked: the server tells where they are." })];
	if (!servers) return [row("STUN and TURN")];
	const rows = servers.map((server) => row(nameOf(server), server.outcome ? serverLine(server) : undefined));
	if (!servers.some(isTurn)) rows.push(row("TURN", { state: "unsure", text: NONE }));
	// Several of a kind get numbers: names and addresses of servers are not for a report.
	return rows.map((each, at) => {
		const before = rows.slice(0, at).filter(({ name }) => name === each.name).length;
		return before ? { ...each, name: `${each.name} (${before + 1})` } : each;
	});
}

/** @param {CheckedServer} server @returns {Omit<CheckRow, "name">} */
function serverLine({ url, outcome, code, roundTrip = 0 }) {
	if (!isTurn({ url })) {
		if (outcome === "works") return { state: "good", text: "It answers." };
		return { state: "bad", text: "It does not answer." };
	}
	if (outcome === "works") return { state: "good", text: `It relays, in ${Math.round(roundTrip)} ms there and back.` };
	if (outcome === "allocated")
		return { state: "bad", text: `It takes this device, but nothing gets through it. ${CHECK_TURN}` };
	// 701 is the browser's own, for a server that does not answer.
	const text = REFUSALS[code] ?? (code === 0 || code === 701 ? "It can't be reached." : `It refuses (${code}).`);
	return { state: "bad", text };
}

/** True for TURN, false for STUN. @param {{url: string}} server */
export const isTurn = ({ url }) => /^turns?:/i.test(url);

/** The transport by which the server is reached; without one in its URL, as RFC 7064 and 7065 have it. @param {{url: string}} server */
function transportOf({ url }) {
	const isSecure = /^(stun|turn)s:/i.test(url);
	const isUdp = (/[?&]transport=(\w+)/i.exec(url)?.[1] ?? (isSecure ? "tcp" : "udp")).toLowerCase() === "udp";
	if (isUdp) return isSecure ? "DTLS" : "UDP";
	return isSecure ? "TLS" : "TCP";
}

/** @param {{url: string}} server */
const isByTcp = (server) => ["TCP", "TLS"].includes(transportOf(server));

/** @param {{url: string}} server */
const portOf = ({ url }) => /:(\d+)(?:\?|$)/.exec(url)?.[1] ?? (/^turns:/i.test(url) ? "5349" : "3478");

/** @param {{url: string}} server */
const isOn443 = (server) => portOf(server) === "443";

/** @param {{url: string}} server */
const nameOf = (server) => (isTurn(server) ? `TURN by ${transportOf(server)}, port ${portOf(server)}` : "STUN");

/** What is so, and what to do, in a sentence or two, once all is known. @param {CheckResults} results @returns {Omit<CheckRow, "name">} */
export function summaryOf(results) {
	const { browser, session } = results;
	if (browser !== "works") return BROWSERS[browser];
	if (session !== "works") return SESSIONS[session];
	const network = networkLine(results);
	const devices = devicesLine(results);
	if (!devices) return network;
	return { state: worst(network.state, devices.state), text: `${network.text} ${devices.text}` };
}

/** @param {CheckState[]} states */
const worst = (...states) => (states.includes("bad") ? "bad" : states.includes("unsure") ? "unsure" : "good");

/** @param {CheckResults} results @returns {Omit<CheckRow, "name">} */
function networkLine({ servers, serversError, isRelayOnly }) {
	if (serversError) return { state: "bad", text: `The network was not checked: ${serversError}` };
	const working = servers.filter(({ outcome }) => outcome === "works");
	const relays = new Set(working.filter(isTurn).map(transportOf));
	const isWebOnly = working.every(isOn443) && servers.some((server) => server.outcome === "fails" && isByTcp(server));
	const hasUdp = working.some((server) => transportOf(server) === "UDP") || relays.has("DTLS");
	const hasTurn = servers.some(isTurn);
	if (hasUdp && relays.size > 0) return { state: "good", text: "Calls work from here." };
	if (relays.size > 0) {
		const way = relays.has("TCP") ? "TCP" : "TLS";
		const blocked = isWebOnly ? "Your network lets only web traffic through." : "Your network blocks UDP.";
		return { state: "unsure", text: `${blocked} Calls go by ${way}: they work, with more delay.` };
	}
	if (isRelayOnly)
		return {
			state: "bad",
			text: "Calls on this server go by TURN alone, and no TURN server works from here. Try another network.",
		};
	if (servers.some(({ outcome }) => outcome === "allocated"))
		return { state: "bad", text: `The TURN server lets nothing through, so some calls will fail. ${CHECK_TURN}` };
	if (servers.length === 0)
		return {
			state: "unsure",
			text: "Calls work within your own network. To others they fail, since this server has neither STUN nor TURN.",
		};
	if (hasUdp && hasTurn)
		return {
			state: "unsure",
			text: "Calls work from here where a direct way can be found. Elsewhere they fail: no TURN server works from here. Their lines say why.",
		};
	if (hasUdp)
		return {
			state: "unsure",
			text: "Calls work from here where a direct way can be found. Elsewhere they fail: this server has no TURN.",
		};
	if (hasTurn)
		return {
			state: "bad",
			text: "Your network blocks calls: neither STUN nor TURN can be reached. Try another network, a phone's for instance.",
		};
	return {
		state: "bad",
		text: "Your network blocks UDP, and this server has no TURN: calls to other networks will fail. Try another network, a phone's for instance.",
	};
}

/** @param {CheckResults} results @returns {Omit<CheckRow, "name"> | null} null if all is well with both */
function devicesLine({ camera, microphone }) {
	const [seen, heard] = [deviceLine("camera", camera), deviceLine("microphone", microphone)];
	const state = worst(seen.state, heard.state);
	if (state === "good") return null;
	const isUnheard = microphone !== "works" && microphone !== "silent";
	if (seen.state !== "good" && isUnheard)
		return { state, text: "Others would neither see nor hear you: see the lines “Camera” and “Microphone”." };
	if (isUnheard) return { state, text: "Others would not hear you: see the line “Microphone”." };
	if (seen.state !== "good") return { state, text: "Others would not see you: see the line “Camera”." };
	return { state, text: "Nothing was heard from your microphone: see the line “Microphone”." };
}

export const MARKS = /** @type {Record<CheckState, string>} */ ({ good: "✓", unsure: "!", bad: "✗", running: "…" });

/** The result as text, to be sent to somebody. @param {CheckResults} results @param {string} browser its own name for itself */
export function reportOf(results, browser) {
	const lines = rowsOf(results).map(({ name, state, text }) => `${MARKS[state]} ${name}: ${text}`);
	const { state, text } = summaryOf(results);
	return [`${MARKS[state]} ${text}`, "", ...lines, "", browser].join("\n");
}
