// One stay in a group: the connection to the server, the call with its peers, and what survives a reload.

import { kept } from "./dom.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { Mesh } from "./mesh.js";
import { sentence } from "./notice.js";
import { PeerShare, Refused } from "./peershare.js";

/** @import {Devices, EndedRing, Media, Member, Peer, Place, RoomEvents, SavedStay, Target, Timer} from "./types" */

const stays = kept("sessionStorage", "peershare.session");
// In ms: where the group was opened again is told so often, and for so long, since some notice late.
const TELL_EVERY = 2_000;
const TELL_FOR = 120_000;
const TOGETHER = 1_000; // rings that end within this time were one

/**
 * What this page was in before it was loaded again, if that was this group.
 * @param {string} groupId @returns {SavedStay | null}
 */
export function savedStay(groupId) {
	const saved = stays.get();
	return saved?.session?.groupId === groupId ? saved : null;
}

/** What it fires: `RoomEvents` in types.d.ts. */
export class Room extends /** @type {new () => Target<RoomEvents>} */ (EventTarget) {
	/** @type {Mesh | null} */
	mesh = null;
	/** Where we are, or were before the server forgot it. @type {Place | null} */
	place = null;
	/** Whether the server does not know the group any more. */
	isLost = false;
	/** Where somebody of the call has opened it anew. @type {(Place & {by: string}) | null} */
	moved = null;
	/** The last call's end, by the server's clock. */
	calledAt = 0;
	/** The call in the group that the server forgot: it goes on until all have moved. @type {Mesh | null} */
	#former = null;
	/** To which group each peer says that it has moved. @type {Map<string, string>} */
	#where = new Map();
	/** @type {Timer | undefined} */
	#telling;
	/** Who they are, also when they are gone. @type {Map<string, string>} */
	#names = new Map();
	/** What they send, also while the server is away. @type {Map<string, Media>} */
	#media = new Map();
	#username;
	/** @type {RTCIceServer[] | null} */
	#iceServers = null;
	#said = ""; // what the others were told of our devices
	/** @type {string[]} */
	#unanswered = []; // rings of ours that are still to be told of
	#faults = ""; // what is wrong with them, as it was told
	#wasInCall;
	/** @type {Promise<void> | null} */
	#joining = null;

	/** @param {Devices} devices @param {SavedStay | null} saved */
	constructor(devices, saved = null) {
		super();
		this.devices = devices;
		this.#wasInCall = saved?.inCall ?? false;
		this.#username = saved?.session.username ?? "";
		const client = (this.client = new PeerShare(undefined, { saved: saved?.session ?? null }));
		client.addEventListener("change", () => this.#remember());
		client.addEventListener("state", () => this.#changed());
		client.addEventListener("session-lost", ({ detail }) => this.#comeBack(detail.groupId, detail.groupName));
		client.addEventListener("closed", ({ detail }) => this.#end(detail));
		client.addEventListener("member-joined", ({ detail }) => this.#tellMember(detail.member, "joined"));
		client.addEventListener("member-left", ({ detail }) => this.#tellMember(detail.member, "left"));
		client.addEventListener("ring-ended", ({ detail }) => this.#tellRing(detail));
		devices.addEventListener("change", this.#followDevices);
		addEventListener("pagehide", this.#goAway);
		client.open();
	}

	get group() {
		return this.client.group;
	}

	get isOnline() {
		return this.client.state === "online" && this.group !== null;
	}

	get isInCall() {
		return this.mesh !== null || this.#former !== null;
	}

	/** All whose pictures there are. @returns {Peer[]} */
	get peers() {
		return [...(this.mesh?.peers.values() ?? []), ...this.#formerPeers];
	}

	/** Those who have not moved yet, as far as we know. What breaks there can't be mended. */
	get #formerPeers() {
		const peers = [...(this.#former?.peers.values() ?? [])];
		return peers.filter(({ userId, state }) => state === "connected" && this.#where.get(userId) !== this.group?.id);
	}

	get link() {
		return `${location.origin}/group/${this.place?.id ?? ""}`;
	}

	/** @param {string} userId */
	nameOf(userId) {
		return userId === this.client.userId ? "You" : (this.#names.get(userId) ?? "Somebody");
	}

	/** @param {string} userId @returns {Media} */
	mediaOf(userId) {
		return this.#media.get(userId) ?? { audio: true, video: true, screen: false };
	}

	// --- what one does ---

	/** @param {string} name @param {string} username */
	async create(name, username) {
		this.#username = username;
		await this.client.createGroup(name, username);
		this.#arrive();
	}

	/** @param {string} id @param {string} username */
	async enter(id, username) {
		this.#username = username;
		const { me } = await this.client.joinGroup(id, username);
		if (me.username !== username) this.#note(`You are “${me.username}” here: there is another ${username}.`);
		this.#arrive();
	}

	#arrive() {
		this.isLost = false;
		this.moved = null;
		this.#changed();
	}

	/** Join the call, or begin it; once, however often it is asked for. */
	joinCall() {
		this.#joining ??= this.#join().finally(() => (this.#joining = null));
		return this.#joining;
	}

	/** The mesh comes first, since others call as soon as they hear of us. */
	async #join() {
		if (!canCall()) throw new Error(NO_WEBRTC);
		if (this.mesh && this.client.inCall) return void (await this.client.joinCall(this.devices.state)); // to a late ring
		this.#iceServers ??= await iceServers();
		if (this.client.state === "closed") return;
		this.devices.open(); // meanwhile: it is sent as soon as it is there
		this.mesh?.close();
		const mesh = (this.mesh = this.#makeMesh(this.#iceServers ?? []));
		const { state } = this.devices;
		this.#said = JSON.stringify(state);
		this.#changed();
		try {
			const others = await this.client.joinCall(state);
			if (this.mesh === mesh) mesh.start(others.map(({ userId }) => userId));
		} catch (error) {
			if (this.mesh === mesh) this.#endCall();
			throw error;
		}
		await this.#sendDevices();
		this.#changed();
	}

	/** Out of the call, but not of the group. */
	async leaveCall() {
		this.#endCall();
		if (this.client.inCall) await this.client.leaveCall();
	}

	/** Camera and microphone are let go: their lights go out. */
	#endCall() {
		this.mesh?.close();
		this.mesh = null;
		this.#endFormer();
		this.devices.close();
		this.calledAt = this.client.serverNow();
		this.#changed();
	}

	/** Ring one member, or all; it begins the call if need be. @param {string} [userId] */
	async ring(userId) {
		if (!this.client.inCall) await this.joinCall();
		// Who rang us in the same moment is in the call already, and all is well.
		if (!userId || !this.client.call.participants.has(userId)) await this.client.ring(userId);
	}

	/** Out of the group, for good. */
	leave() {
		this.#dispose();
		this.client.close();
	}

	/** Make the group that the server forgot once more, under its name. */
	async reopen() {
		if (!this.place) return;
		await this.create(this.place.name, this.#username);
		await this.#moveCall();
	}

	/** Go where somebody has opened the group anew. */
	async follow() {
		if (!this.moved) return;
		await this.enter(this.moved.id, this.#username);
		await this.#moveCall();
	}

	// --- the call that outlives its group ---

	/** The call goes on in the group that was opened anew; the others of the old one hear where. */
	async #moveCall() {
		const former = this.#former ?? this.mesh; // or it is we who have to move once more
		if (!former) return;
		if (this.mesh !== former) this.mesh?.close();
		this.mesh = null;
		this.#former = former;
		former.detach();
		this.#tellWhere();
		clearInterval(this.#telling);
		this.#telling = setInterval(() => this.#tellWhere(), TELL_EVERY);
		setTimeout(() => former === this.#former && this.#endFormer(), TELL_FOR);
		await this.#joining?.catch(() => {}); // to where we are no more
		await this.joinCall();
	}

	#tellWhere() {
		this.#former?.send({ moved: this.place });
	}

	#endFormer() {
		clearInterval(this.#telling);
		this.#former?.close();
		this.#former = null;
	}

	/** @param {string} from @param {any} data of a peer, who may say anything */
	#hearOf(from, data) {
		if (data?.media) this.#hearMedia(from, data.media);
		const { id, name } = data?.moved ?? {};
		if (typeof id !== "string" || typeof name !== "string") return;
		this.#where.set(from, id);
		const isElsewhere = id !== this.group?.id && (!this.isOnline || this.#former);
		if (isElsewhere) this.#hearWhere({ id, name: name.slice(0, 100), by: this.nameOf(from) });
		if (!this.#formerPeers.length) this.#endFormer();
		this.#changed();
	}

	/** @param {string} userId @param {any} media */
	#hearMedia(userId, { audio, video, screen }) {
		this.#media.set(userId, { audio: audio === true, video: video === true, screen: screen === true });
		this.#changed();
	}

	/**
	 * Of two places, all meet where the ID is less. It is only offered: a peer may name any group, even
	 * one of strangers.
	 * @param {Place & {by: string}} where
	 */
	#hearWhere(where) {
		if (where.id >= (this.moved?.id ?? this.group?.id ?? "~")) return;
		this.moved = where;
		this.#note(`${where.by} has opened the group again.`);
	}

	// --- what our devices give ---

	#followDevices = () => {
		const faults = this.devices.wrong.join(" ");
		if (this.isInCall && faults && faults !== this.#faults) this.#note(faults, "bad");
		this.#faults = faults;
		this.#sendDevices();
	};

	/** Let the others have it, and know. */
	async #sendDevices() {
		const { devices, client } = this;
		const meshes = [this.mesh, this.#former];
		await Promise.all(
			meshes.flatMap((mesh) => [mesh?.setTrack("audio", devices.audio), mesh?.setTrack("video", devices.video)]),
		);
		if (client.state !== "online") this.mesh?.send({ media: devices.state });
		const said = JSON.stringify(devices.state);
		if (!client.inCall || said === this.#said) return;
		this.#said = said;
		await client.updateMedia(devices.state).catch(() => {}); // out of the call meanwhile
	}

	/** @param {RTCIceServer[]} servers */
	#makeMesh(servers) {
		const { audio, video } = this.devices;
		const mesh = new Mesh(this.client, { iceServers: servers, tracks: { audio, video } });
		for (const type of /** @type {const} */ (["peer", "peer-left"])) mesh.addEventListener(type, () => this.#changed());
		mesh.addEventListener("stats", () => this.dispatchEvent(new Event("stats")));
		mesh.addEventListener("message", ({ detail }) => this.#hearOf(detail.from, detail.data));
		return mesh;
	}

	// --- what happens to us ---

	#remember() {
		const { group } = this.client;
		if (group) {
			this.place = { id: group.id, name: group.name };
			this.#username ||= group.me.username;
			for (const { id, username } of group.members.values()) this.#names.set(id, username);
			for (const { userId, ...media } of this.client.call.participants.values()) this.#media.set(userId, media);
			if (this.isOnline && !this.#former) this.moved = null; // it was not lost, or it is long ago
			if (this.#wasInCall) this.joinCall().catch((error) => this.#note(sentence(error), "bad"));
			this.#wasInCall = false;
			this.#save();
		}
		this.#changed();
	}

	/**
	 * The session is lost. If it was we who were away for too long, the group is still there; if it was the server, not.
	 * @param {string} [id] @param {string} [name]
	 */
	async #comeBack(id, name) {
		const wasInCall = this.mesh !== null;
		stays.set(null);
		if (!id || !name) return;
		const wasHere = this.place !== null;
		this.place = { id, name };
		if (!wasHere) return this.#over("", true); // another page was, long ago: no camera is on before it is seen
		try {
			await this.enter(id, this.#username);
			if (wasInCall) await this.joinCall();
		} catch (error) {
			if (this.client.state === "closed") return;
			if (this.group) return this.#note(sentence(error), "bad"); // in it, but not in its call
			this.isLost = error instanceof Refused && error.code === "GROUP_NOT_FOUND";
			if (!this.isLost) return this.#over(sentence(error), true);
			this.#changed();
		}
	}

	/** @param {{code: number, reason: string}} detail */
	#end({ code, reason }) {
		if (code === 1000) return;
		this.#dispose();
		const text =
			code === 4506
				? "This group is open in another window, which has taken over."
				: `The server has ended this: ${reason || code}.`;
		this.#over(text, false);
	}

	/** @param {string} text @param {boolean} again */
	#over(text, again) {
		this.dispatchEvent(new CustomEvent("over", { detail: { text, again } }));
	}

	/** @param {Member} member @param {string} what */
	#tellMember({ username }, what) {
		this.#note(`${username} has ${what} the group.`, "quiet");
	}

	/** @param {EndedRing} ring */
	#tellRing({ from, to, outcome }) {
		const { userId } = this.client;
		if (from === userId && outcome === "declined") this.#note(`${this.nameOf(to)} declined.`);
		if (from === userId && outcome === "missed" && this.#unanswered.push(to) === 1)
			setTimeout(() => this.#tellUnanswered(), TOGETHER);
		if (to === userId && (outcome === "missed" || outcome === "cancelled"))
			this.#note(`You missed a call from ${this.nameOf(from)}.`);
	}

	/** All of one ring to everyone in one sentence. */
	#tellUnanswered() {
		const ids = this.#unanswered.splice(0);
		this.#note(`${ids.length === 1 ? this.nameOf(ids[0]) : ids.length} did not answer.`);
	}

	#save() {
		const session = this.client.save();
		if (session) stays.set({ session, inCall: this.#wasInCall || !!this.#joining || this.isInCall });
	}

	/**
	 * The page goes, and may come back in a moment: as a member we are *away* then, but our picture shall not freeze on
	 * the others' screens.
	 */
	#goAway = () => {
		this.#save();
		this.mesh?.close();
		this.#endFormer();
		if (this.client.inCall) this.client.leaveCall().catch(() => {});
	};

	#dispose() {
		removeEventListener("pagehide", this.#goAway);
		this.devices.removeEventListener("change", this.#followDevices);
		stays.set(null);
		this.#endCall();
	}

	/** @param {string} text @param {"" | "bad" | "quiet"} [kind] */
	#note(text, kind = "") {
		this.dispatchEvent(new CustomEvent("note", { detail: { text, kind } }));
	}

	#changed() {
		this.dispatchEvent(new Event("change"));
	}
}

/** @returns {Promise<RTCIceServer[] | null>} null if they could not be had, and are to be asked for again */
async function iceServers() {
	const answer = await fetch("/api/ice").catch(() => null);
	return answer?.ok ? (await answer.json()).iceServers : null;
}
