// The details of a connection in a call: what is in the way, the path, and figures; to read, and to copy for somebody who can help.

import { announce, fill, h, hide, isolate, setText, showDialog } from "./dom.js";
import { NO_ANSWER, WAYS } from "./gathering.js";
import { asyncHandler } from "./notice.js";
import { safetySection } from "./safety-section.js";
import { figures } from "./tiles.js";

/** @import {CandidatePair, Facts, Gathered, GroupSession, Peer} from "./types" */

const STATES = {
	connecting: "Connecting",
	connected: "Connected",
	reconnecting: "Reconnecting",
	failed: "No connection",
};
const WAY_NAMES = {
	host: "own address",
	stun: "public address (STUN)",
	"turn/udp": "relay by UDP",
	"turn/tcp": "relay by TCP",
	"turn/web": "relay by TCP on a port of the web",
};
/** @type {Record<string, string>} */
const RESULTS = { found: "found", waiting: "waiting", [NO_ANSWER]: "no answer" };

/** Show the details of a peer until they are closed. @param {GroupSession} session @param {string} userId */
export function showDetails(session, userId) {
	const name = isolate(session.nameOf(userId));
	const sentence = h("p", { class: "notice", role: "status" });
	const list = h("dl", {});
	const copy = h("button", { type: "button", class: "secondary", onclick: asyncHandler(copyDetails) }, "Copy");
	const retry = h(
		"button",
		{ type: "button", class: "primary", onclick: () => session.mesh?.restart(userId) },
		"Try again",
	);
	const find = () => session.peers.find((peer) => peer.userId === userId);
	const safety = safetySection(session, find);
	const dialog = showDialog(
		"details",
		`Connection to ${name}`,
		sentence,
		safety.element,
		list,
		h("div", { class: "choices" }, retry, copy),
	);

	/** @type {string[][]} */
	let rows = [];
	function update() {
		const peer = find();
		if (!peer) return dialog.close(); // who has left
		safety.update();
		setText(sentence, session.statusOf(peer));
		rows = detailRows(peer, session.factsOf(peer), name);
		if (list.textContent !== rows.flat().join(""))
			fill(list, ...rows.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
		hide(retry, peer.state !== "failed", copy);
	}

	async function copyDetails() {
		const lines = rows.map((row) => row.join(": "));
		const text = [`Connection to ${name}`, sentence.textContent, ...lines, navigator.userAgent, ""].join("\n");
		try {
			await navigator.clipboard.writeText(text);
		} catch {
			getSelection()?.selectAllChildren(list); // over http there is only the old way
			if (!document.execCommand("copy"))
				throw new Error("The browser does not copy. The details are selected: copy them by hand.");
		}
		setText(copy, "Copied");
		announce("The details are copied.");
	}

	const closed = new AbortController();
	for (const type of /** @type {const} */ (["change", "stats"]))
		session.addEventListener(type, update, { signal: closed.signal });
	dialog.addEventListener("close", () => closed.abort());
	update();
}

/** What is known, by term. No address is among it. @param {Peer} peer @param {Facts} facts @param {string} name @returns {string[][]} */
function detailRows({ state, quality, path: { selected, attempts } }, { mine, theirs }, name) {
	const { time, loss, rate } = figures(quality);
	const isMeasured = quality.level !== "unknown";
	return [
		["State", STATES[state]],
		["Path", selected ? pathText(selected) : ""],
		["Candidates", selected ? `${selected.local.type}, ${selected.remote.type}` : ""],
		["Round trip", isMeasured ? time : ""],
		["Lost packets", isMeasured ? loss : ""],
		["Received", isMeasured ? rate : ""],
		["Picture", quality.resolution],
		["Attempts", attempts ? String(attempts) : ""],
		["Your browser", waysText(mine)],
		[`${name}'s browser`, waysText(theirs)],
	].filter(([, value]) => value);
}

/** @param {CandidatePair} pair */
function pathText({ local, remote }) {
	const protocol = (local.relayProtocol ?? local.protocol).toUpperCase();
	if (local.type === "relay") return `By a relay (TURN), which you reach by ${protocol}`;
	return `${remote.type === "relay" ? "By the other side's relay (TURN)" : "Direct"}, ${protocol}`;
}

/** @param {Gathered | null} gathered */
function waysText(gathered) {
	const ways = WAYS.flatMap((way) => (gathered?.[way] ? [[WAY_NAMES[way], gathered[way]]] : []));
	return ways.map(([way, result]) => `${way}: ${RESULTS[result] ?? `refused (${result})`}`).join("; ");
}
