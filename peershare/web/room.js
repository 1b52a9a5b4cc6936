// One stay in a group: the connection to the server, the call with its peers, and what survives a reload.

import { NO_WEBRTC, canCall } from "./media.js";
import { Mesh } from "./mesh.js";
import { PeerShare, Refused } from "./peershare.js";

/**
 * @typedef {import("./media.js").Devices} Devices
 * @typedef {import("./peershare.js").Member} Member
 * @typedef {{session: NonNullable<ReturnType<PeerShare["save"]>>, inCall: boolean}} Saved
 * @typedef {{id: string, name: string}} Place
 */

const STORED = "peershare.session";

/** Sentences for what the server may refuse. */
const REFUSALS = /** @type {Record<string, string>} */ ({
	GROUP_NOT_FOUND: "There is no such group any more.",
	CALL_FULL: "The call is full. You can stay here, and join when somebody leaves.",
	ALREADY_IN_CALL: "They are in the call already.",
	PEER_NOT_FOUND: "They can't be rung: they came with a program that knows no calls.",
	USER_NOT_FOUND: "They have just left.",
});

/**
 * What to tell about an error.
 *
 * @param {unknown} error
 */
export function sentence(error) {
	if (!(error instanceof Refused)) return error instanceof Error ? error.message : String(error);
	const wait = /** @type {{retryAfterMs?: number} | undefined} */ (error.details)?.retryAfterMs;
	if (error.code === "RATE_LIMITED") return `${error.message}. Try again in ${wait ? duration(wait) : "a while"}.`;
	return REFUSALS[error.code] ?? `${error.message}.`;
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
	const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
	if (seconds < 90) return seconds === 1 ? "a second" : `${seconds} seconds`;
	return `${Math.round(seconds / 60)} minutes`;
}

/**
 * What this page was in before it was loaded again, if that was this group.
 *
 * @param {string} groupId
 * @returns {Saved | null}
 */
export function savedStay(groupId) {
	try {
		const saved = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
		return saved?.session?.groupId === groupId ? saved : null;
	} catch {
		return null;
	}
}

/**
 * `change` is fired whenever something is to be drawn anew; `note` {text, kind} for what is to be told once, "quiet" if it can be seen
 * anyway; `over`
 * {text} when the stay has ended for good, and not by us.
 */
export class Room extends EventTarget {
	/** @type {Mesh | null} */
	mesh = null;
	/** The group as it was when the server forgot it. @type {Place | null} */
	lost = null;
	/** Where somebody of the call has opened it anew. @type {(Place & {by: string}) | null} */
	moved = null;
	/** Who they are, also when they are gone. @type {Map<string, string>} */
	#names = new Map();
	#username = "";
	#iceServers;
	#wasInCall;

	/**
	 * @param {Devices} devices
	 * @param {Saved | null} saved
	 */
	constructor(devices, saved = null) {
		super();
		this.devices = devices;
		this.#wasInCall = saved?.inCall ?? false;
		this.#iceServers = iceServers();
		const client = (this.client = new PeerShare(undefined, { saved: saved?.session ?? null }));
		const on = (/** @type {string} */ type, /** @type {(detail: any) => void} */ heard) =>
			client.addEventListener(type, (event) => heard(/** @type {CustomEvent} */ (event).detail));
		on("change", () => this.#remember());
		on("state", () => this.#changed());
		on("session-lost", (detail) => this.#lose(detail));
		on("closed", (detail) => this.#end(detail));
		on("member-joined", ({ member }) => this.#note(`${member.username} has joined the group.`, "quiet"));
		on("member-left", ({ member }) => this.#note(`${member.username} has left the group.`, "quiet"));
		on("ring-ended", (detail) => this.#tellRing(detail));
		this.sendDevices = this.sendDevices.bind(this);
		devices.addEventListener("change", this.sendDevices);
		addEventListener("pagehide", this.#goAway);
		client.open();
	}

	get group() {
		return this.client.group;
	}

	/** Where we are, or were before the server forgot it. */
	get place() {
		return this.client.group ?? this.lost;
	}

	get link() {
		return `${location.origin}/group/${this.place?.id ?? ""}`;
	}

	/** @param {string} userId */
	nameOf(userId) {
		return userId === this.client.userId ? "You" : (this.#names.get(userId) ?? "Somebody");
	}

	/** @param {string} name @param {string} username */
	async create(name, username) {
		this.#username = username;
		await this.client.createGroup(name, username);
		this.lost = null;
	}

	/** @param {string} id @param {string} username */
	async enter(id, username) {
		this.#username = username;
		await this.client.joinGroup(id, username);
		this.lost = this.moved = null;
	}

	/** Join the call, or begin it. The mesh is there before, since others call as soon as they hear of us. */
	async joinCall() {
		if (!canCall()) throw new Error(NO_WEBRTC);
		const servers = await this.#iceServers;
		this.devices.open(); // meanwhile: what is not there yet is sent as soon as it is
		this.mesh?.close();
		const mesh = (this.mesh = this.#makeMesh(servers));
		try {
			await this.client.joinCall(this.devices.state);
		} catch (error) {
			mesh.close();
			if (this.mesh === mesh) this.mesh = null;
			this.devices.close();
			this.#changed();
			throw error;
		}
		mesh.start([...this.client.call.participants.keys()].filter((id) => id !== this.client.userId));
		await this.sendDevices();
		this.#changed();
	}

	/** Out of the call, but not of the group. Camera and microphone are let go: their lights go out. */
	async leaveCall() {
		this.mesh?.close();
		this.mesh = null;
		this.devices.close();
		this.#changed();
		if (this.client.inCall) await this.client.leaveCall();
	}

	/**
	 * Ring one member, or all; it begins the call if need be.
	 *
	 * @param {string} [userId]
	 */
	async ring(userId) {
		if (!this.client.inCall) await this.joinCall();
		await this.client.ring(userId);
	}

	/** Out of the group, for good. */
	leave() {
		this.#dispose();
		this.client.close();
	}

	/** Make the group that the server forgot once more, under its name. The others of the call hear where. */
	async reopen() {
		const lost = this.lost;
		if (!lost) return;
		const inCall = this.mesh !== null;
		await this.create(lost.name, this.#username);
		this.mesh?.send({ moved: { id: this.group?.id, name: lost.name } });
		if (inCall) await this.joinCall();
		this.#changed();
	}

	/** Go where somebody has opened the group anew. */
	async follow() {
		if (!this.moved) return;
		const inCall = this.mesh !== null;
		await this.enter(this.moved.id, this.#username);
		if (inCall) await this.joinCall();
		this.#changed();
	}

	/** Let the others have, and know, what our devices give. */
	async sendDevices() {
		const { mesh, devices, client } = this;
		if (!mesh) return;
		await Promise.all([mesh.setTrack("audio", devices.audio), mesh.setTrack("video", devices.video)]);
		const { audio, video, screen } = devices.state;
		const told = client.userId ? client.call.participants.get(client.userId) : undefined;
		if (told && (told.audio !== audio || told.video !== video || told.screen !== screen)) {
			await client.updateMedia({ audio, video, screen }).catch(() => {}); // out of the call meanwhile
		}
	}

	/** @param {RTCIceServer[]} servers */
	#makeMesh(servers) {
		const { audio, video } = this.devices;
		const mesh = new Mesh(this.client, { iceServers: servers, tracks: { audio, video } });
		for (const type of ["peer", "peer-left"]) mesh.addEventListener(type, () => this.#changed());
		mesh.addEventListener("message", (event) => this.#hearOf(/** @type {CustomEvent} */ (event).detail));
		return mesh;
	}

	/** @param {{from: string, data: unknown}} message of a peer, who may say anything */
	#hearOf({ from, data }) {
		const moved = /** @type {{moved?: {id?: unknown, name?: unknown}} | null} */ (data)?.moved;
		if (!this.lost || typeof moved?.id !== "string" || typeof moved.name !== "string") return;
		this.moved = { id: moved.id, name: moved.name.slice(0, 100), by: this.nameOf(from) };
		this.#note(`${this.moved.by} has opened the group anew.`);
		this.#changed();
	}

	#remember() {
		const { group } = this.client;
		if (group) {
			this.#username ||= group.me.username;
			for (const member of group.members.values()) this.#names.set(member.id, member.username);
			if (this.#wasInCall) this.#joinAgain();
			this.#save();
		}
		this.#changed();
	}

	/** After a reload. */
	#joinAgain() {
		this.#wasInCall = false;
		this.joinCall().catch((error) => this.#note(sentence(error), "bad"));
	}

	/** @param {{groupId: string | null, groupName: string | null}} detail */
	#lose({ groupId, groupName }) {
		this.#wasInCall = false;
		sessionStorage.removeItem(STORED);
		this.lost = groupId && groupName ? { id: groupId, name: groupName } : null;
		this.#changed();
	}

	/** @param {{code: number, reason: string}} detail */
	#end({ code, reason }) {
		if (code === 1000) return;
		this.#dispose();
		const text =
			code === 4506
				? "This group is open in another window, which has taken over."
				: `The server has ended this: ${reason || code}.`;
		this.dispatchEvent(new CustomEvent("over", { detail: { text } }));
	}

	/** @param {import("./peershare.js").EndedRing} ring */
	#tellRing({ from, to, outcome }) {
		const { userId } = this.client;
		if (from === userId && outcome === "declined") this.#note(`${this.nameOf(to)} declined.`);
		if (from === userId && outcome === "missed") this.#note(`${this.nameOf(to)} did not answer.`);
		if (to === userId && (outcome === "missed" || outcome === "cancelled"))
			this.#note(`You missed a call from ${this.nameOf(from)}.`);
	}

	#save() {
		const session = this.client.save();
		if (session) sessionStorage.setItem(STORED, JSON.stringify({ session, inCall: this.mesh !== null }));
	}

	/**
	 * The page goes, and may come back in a moment: as a member we are *away* then, but our picture shall not freeze on
	 * the others' screens.
	 */
	#goAway = () => {
		this.#save();
		this.mesh?.close();
		if (this.client.inCall) this.client.leaveCall().catch(() => {});
	};

	#dispose() {
		removeEventListener("pagehide", this.#goAway);
		this.devices.removeEventListener("change", this.sendDevices);
		sessionStorage.removeItem(STORED);
		this.mesh?.close();
		this.mesh = null;
	}

	/** @param {string} text @param {"" | "bad" | "quiet"} [kind] */
	#note(text, kind = "") {
		this.dispatchEvent(new CustomEvent("note", { detail: { text, kind } }));
	}

	#changed() {
		this.dispatchEvent(new Event("change"));
	}
}

/** @returns {Promise<RTCIceServer[]>} */
async function iceServers() {
	const answer = await fetch("/api/ice").catch(() => null);
	return answer?.ok ? (await answer.json()).iceServers : [];
}
