/**
 * A safety code: four emoji for the connection of two browsers. Where both show the same, nobody sits between them,
 * not even the server that introduced them. docs/safety-codes.md has the bytes, the reasons, and what it can't do.
 * @import {Fingerprints, SafetyEmoji, SafetyFault, SafetyMessage, SafetyState} from "./types"
 */

const LABEL = "PeerShare safety code 1";
const TIMEOUT = 30_000; // ms for the whole exchange; a browser in the background is slow
const CODE_BITS = 24; // four emoji of 64
// Of one page. A server that sits between may have connections made anew until a code fits, which each does by 1 in 2^24.
const MAX_EXCHANGES = 256;

/** The emoji. A browser asks again for a module that did not arrive. */
const loadTable = () => import("./safety-emoji.js");

// Fingerprints, nonces and commitments are 32 bytes, in 64 lower-case hex digits.

/** @param {ArrayBuffer | Uint8Array} bytes */
const toHex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} hex */
const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));

/** @param {unknown} value @returns {value is string} */
const isHex = (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);

/** @param {BufferSource} bytes */
const sha256 = async (bytes) => toHex(await crypto.subtle.digest("SHA-256", bytes));

/**
 * Read the fingerprints of both certificates; null where they are not certain. A description may name several, of which the
 * other side may have any: then a code over one of them would vouch for none.
 * @param {RTCPeerConnection} pc @returns {Promise<Fingerprints | null>}
 */
export async function readFingerprints(pc) {
	// A channel may open before the page has the answer's description.
	while (pc.signalingState !== "stable") await change(pc);
	const [local, remote] = [pc.currentLocalDescription, pc.currentRemoteDescription].map(fingerprintIn);
	const [certificate] = pc.sctp?.transport.getRemoteCertificates?.() ?? []; // Firefox shows none, but has checked it
	if (certificate && (await sha256(certificate)) !== remote) return null;
	return local && remote && local !== remote ? { local, remote } : null;
}

/** @param {RTCPeerConnection} pc */
const change = (pc) => new Promise((resolve) => pc.addEventListener("signalingstatechange", resolve, { once: true }));

/** The only fingerprint of a description, for all its media, by SHA-256; else "". @param {RTCSessionDescription | null} description */
function fingerprintIn(description) {
	const lines = description?.sdp.match(/^a=fingerprint.*/gim) ?? [];
	const found = new Set(lines.map((line) => line.slice("a=fingerprint:".length).trim().toLowerCase()));
	const [, digits] = [...found].join().match(/^sha-256 ((?:[0-9a-f]{2}:){31}[0-9a-f]{2})$/) ?? [];
	return digits?.replaceAll(":", "") ?? "";
}

let exchanges = 0;

/** One exchange over one connection, and its result. */
export class SafetyCode {
	/** @type {SafetyState} */
	state = "waiting";
	/** @type {SafetyEmoji[]} empty until the exchange is complete */
	emoji = [];
	/** @type {SafetyFault | ""} why there is no code */
	fault = "";
	#read;
	#send;
	#changed;
	/** @type {Fingerprints | null} */
	#fingerprints = null;
	#nonce = toHex(crypto.getRandomValues(new Uint8Array(32)));
	#commitment = ""; // the other side's
	#expected = "";
	/** One step after the other: most of them wait for the browser's cryptography. */
	#steps = Promise.resolve();

	/**
	 * @param {() => Promise<Fingerprints | null>} read @param {(message: SafetyMessage) => void} send
	 * @param {() => void} changed
	 */
	constructor(read, send, changed) {
		this.#read = read;
		this.#send = send;
		this.#changed = changed;
	}

	/** Both fingerprints, as a name for this pair of certificates. */
	get pair() {
		const { local = "", remote = "" } = this.#fingerprints ?? {};
		return `${local} ${remote}`;
	}

	/** Begin, as soon as the connection takes messages. */
	start(timeout = TIMEOUT) {
		loadTable().catch(() => {}); // before the server may be away
		this.#queue(() => this.#start());
		setTimeout(() => this.#queue(async () => this.state === "waiting" && this.#fail("silent")), timeout);
	}

	/** Look again whether the certificates are those of the code: a new description may have replaced them. */
	check() {
		this.#queue(async () => {
			if (!this.#fingerprints) return;
			const { local, remote } = (await this.#read()) ?? {};
			if (`${local} ${remote}` !== this.pair) this.#fail("changed");
		});
	}

	/** @param {unknown} message of the other side, which may send anything */
	handle(message) {
		this.#queue(() => this.#handle(message));
	}

	/** @param {() => Promise<unknown>} step */
	#queue(step) {
		this.#steps = this.#steps.then(step).then(
			() => {},
			() => this.#fail("wrong"),
		);
	}

	async #start() {
		if (!crypto.subtle) return this.#fail("insecure");
		if (++exchanges > MAX_EXCHANGES) return this.#fail("often");
		this.#fingerprints = await this.#read();
		if (!this.#fingerprints) return this.#fail("unclear");
		this.#expected = this.#commits ? "nonce" : "commitment";
		if (this.#commits) this.#send({ commitment: await this.#commitmentTo(this.#nonce) });
	}

	/** Whether this side commits, and the other answers: that with the lesser fingerprint. */
	get #commits() {
		return this.#fingerprints !== null && this.#fingerprints.local < this.#fingerprints.remote;
	}

	/** Both fingerprints in order. */
	get #both() {
		const { local = "", remote = "" } = this.#fingerprints ?? {};
		return this.#commits ? local + remote : remote + local;
	}

	/** @param {string} nonce */
	#commitmentTo(nonce) {
		const label = new TextEncoder().encode(`${LABEL} commitment`);
		return sha256(Uint8Array.of(...label, ...fromHex(this.#both + nonce)));
	}

	/** @param {unknown} message */
	async #handle(message) {
		const [[kind, value] = []] = Object.entries(message ?? {});
		if (this.state !== "waiting" || (kind === "commitment" && this.#commitment)) return; // late, or repeated
		if (kind !== this.#expected || !isHex(value)) return this.#fail("wrong");
		if (kind === "commitment") {
			this.#commitment = value;
			this.#expected = "reveal";
			this.#send({ nonce: this.#nonce });
		} else if (kind === "nonce") {
			this.#send({ reveal: this.#nonce });
			await this.#finish(this.#nonce + value);
		} else if ((await this.#commitmentTo(value)) === this.#commitment) await this.#finish(value + this.#nonce);
		else this.#fail("wrong");
	}

	/** @param {string} nonces that of the side that committed first */
	async #finish(nonces) {
		const key = await crypto.subtle.importKey("raw", fromHex(nonces), "HKDF", false, ["deriveBits"]);
		const info = new TextEncoder().encode(LABEL);
		const parameters = { name: "HKDF", hash: "SHA-256", salt: fromHex(this.#both), info };
		const code = parseInt(toHex(await crypto.subtle.deriveBits(parameters, key, CODE_BITS)), 16);
		const { EMOJI } = await loadTable();
		this.emoji = [18, 12, 6, 0].map((shift) => EMOJI[(code >> shift) & 63]);
		this.state = "ready";
		this.#changed();
	}

	/** @param {SafetyFault} fault */
	#fail(fault) {
		if (this.state === "failed") return;
		this.state = "failed";
		this.fault = fault;
		this.emoji = [];
		this.#changed();
	}
}

/**
 * Exchange over this connection as soon as its channel is open. Incoming messages are for `handle`.
 * @param {RTCPeerConnection} pc @param {RTCDataChannel} channel @param {() => void} changed
 */
export function exchangeOver(pc, channel, changed) {
	const send = (/** @type {SafetyMessage} */ safety) => channel.send(JSON.stringify({ safety }));
	const code = new SafetyCode(() => readFingerprints(pc), send, changed);
	channel.addEventListener("open", () => code.start());
	pc.addEventListener("signalingstatechange", () => pc.signalingState === "stable" && code.check());
	return code;
}
