// One stay in a group: the connection to the server, the call with its peers, and what survives a reload.

import { BASE, inText, kept } from "./dom.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { Mesh } from "./mesh.js";
import { sentence } from "./notice.js";
import { PeerShare, RefusedError } from "./peershare.js";

/** @import {Devices, RingEnded, Group, Media, Member, Peer, Place, RoomEvents, SavedStay, Target, Timer, Told} from "./types" */

const stays = kept("sessionStorage", "peershare.session");
// In ms.
const FORMER_FOR = 120_000; // connections of before the server was restarted are kept for those who notice late
const TRY_EVERY = 10_000; // a group that can't be opened again yet
const TOGETHER = 1_000; // rings that end within this time were one

/**
 * What this page was in before it was loaded again, if that was this group.
 * @param {string} groupId @returns {SavedStay | null}
 */
export function savedStay(groupId) {
	const saved = stays.get();
	return saved?.session?.groupId === groupId ? saved : null;
}

/** To go on with what another tab was in. @param {SavedStay} saved */
export const keepStay = (saved) => stays.set(saved);

/** What it fires: `RoomEvents` in types.d.ts. */
export class Room extends /** @type {new () => Target<RoomEvents>} */ (EventTarget) {
	/** @type {Mesh | null} */
	mesh = null;
	/** Where we are, or were before the server forgot it. @type {Place | null} */
	place = null;
	/** Why the server, which does not know the group any more, does not open it again yet. */
	lost = "";
	/** Members who are other tabs of this browser. @type {Set<string>} */
	twins = new Set();
	/** The last call's end, by the server's clock. */
	calledAt = 0;
	/** The call as it was before the server forgot us: each connection goes on until there is another. @type {Mesh | null} */
	#former = null;
	/** Who those of the former call say that they are now. @type {Map<string, string>} */
	#successors = new Map();
	/** @type {Timer | undefined} */
	#trying;
	/** Who they are, also when they are gone. @type {Map<string, string>} */
	#names = new Map();
	/** What they send, as it was heard last. @type {Map<string, Media>} */
	#media = new Map();
	/** Connections over which they say it themselves: the server's word may be older. @type {WeakSet<MediaStream>} */
	#direct = new WeakSet();
	#username;
	/** @type {RTCIceServer[] | null} */
	#iceServers = null;
	#said = ""; // what the server was told of our devices
	#shown = ""; // and the others, directly
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
		client.addEventListener("state", () => this.#tellMedia());
		client.addEventListener("session-lost", ({ detail }) => this.#restore(detail.groupId, detail.groupName));
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

	/** All whose pictures there are; each person once. @returns {Peer[]} */
	get peers() {
		const former = this.#formerPeers;
		const isFormer = new Set(former.map(({ userId }) => this.#successors.get(userId)));
		const current = [...(this.mesh?.peers.values() ?? [])];
		return [...current.filter(({ userId }) => !isFormer.has(userId)), ...former];
	}

	/** Those to whom there is no new connection yet. What breaks there can't be mended. */
	get #formerPeers() {
		const isThere = (/** @type {string} */ userId) => this.mesh?.peers.get(userId)?.state === "connected";
		return [...(this.#former?.peers.values() ?? [])].filter(
			({ userId, state }) => state === "connected" && !isThere(this.#successors.get(userId) ?? ""),
		);
	}

	get link() {
		return `${location.origin}${BASE}group/${this.place?.id ?? ""}`;
	}

	/** @param {string} userId */
	nameOf(userId) {
		return userId === this.client.userId ? "You" : (this.#names.get(userId) ?? "Somebody");
	}

	/** Whether somebody is in the call, as far as we know: who said goodbye is not. @param {string} userId */
	takesPart(userId) {
		const { call, inCall } = this.client;
		const isMissed = this.mesh !== null && inCall && userId !== this.client.userId && !this.mesh.peers.has(userId);
		return call.participants.has(userId) && !isMissed;
	}

	/** @param {string} userId @returns {Media} */
	mediaOf(userId) {
		return this.#media.get(userId) ?? { audio: true, video: true, screen: false };
	}

	// --- what one does ---

	/** @param {string} name @param {string} username @param {string} [id] of a group that has ended */
	async create(name, username, id) {
		this.#username = username;
		this.#arrive(await this.client.createGroup(name, username, id));
	}

	/** @param {string} id @param {string} username */
	async enter(id, username) {
		this.#username = username;
		this.#arrive(await this.client.joinGroup(id, username));
	}

	/** @param {Group} group */
	#arrive({ me }) {
		const wanted = this.#username;
		if (me.username !== wanted)
			this.#note(`You are “${inText(me.username)}” here: there is another ${inText(wanted)}.`);
		this.lost = "";
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

	// --- the call that outlives its group ---

	/** Into the group that we were in; if the server does not know it any more, it is opened again under its ID. @param {Place} place */
	async #enterAgain(place) {
		const wasInCall = this.isInCall;
		try {
			await this.enter(place.id, this.#username);
		} catch (error) {
			if (!(error instanceof RefusedError && error.code === "GROUP_NOT_FOUND")) throw error;
			await this.#openAgain(place);
		}
		if (wasInCall) await this.#moveCall();
	}

	/** @param {Place} place */
	async #openAgain({ id, name }) {
		try {
			await this.create(name, this.#username, id);
			this.#note(`The server had forgotten “${name}”. It is open again.`);
		} catch (error) {
			this.lost = sentence(error);
			this.#changed();
			throw error;
		}
	}

	/** The call goes on in the group as it is now: to the others, we are somebody new. */
	async #moveCall() {
		const former = this.#former ?? this.mesh; // or it is the second time
		if (!former) return;
		if (this.mesh !== former) this.mesh?.close();
		this.mesh = null;
		this.#former = former;
		former.detach();
		former.send({ as: this.client.userId });
		setTimeout(() => former === this.#former && this.#endFormer(), FORMER_FOR);
		await this.#joining?.catch(() => {}); // to where we are no more
		await this.joinCall();
	}

	#endFormer() {
		this.#former?.close();
		this.#former = null;
	}

	/** @param {Mesh} mesh @param {string} from @param {Told} data of a peer, who may say anything */
	#hearOf(mesh, from, data) {
		const stream = mesh.peers.get(from)?.stream;
		if (data?.media && stream) {
			this.#direct.add(stream);
			this.#hearMedia(from, data.media);
		}
		if (typeof data?.as === "string") this.#successors.set(from, data.as);
		this.#changed();
	}

	/** @param {string} userId @param {any} media */
	#hearMedia(userId, { audio, video, screen }) {
		this.#media.set(userId, { audio: audio === true, video: video === true, screen: screen === true });
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
		const { devices } = this;
		const meshes = [this.mesh, this.#former];
		await Promise.all(
			meshes.flatMap((mesh) => [mesh?.setTrack("audio", devices.audio), mesh?.setTrack("video", devices.video)]),
		);
		await this.#tellMedia();
	}

	/** Directly, which needs no server; and by the server, for those to whom there is no connection yet. */
	async #tellMedia() {
		const media = this.devices.state;
		const said = JSON.stringify(media);
		for (const mesh of [this.mesh, this.#former]) if (said !== this.#shown) mesh?.send({ media });
		this.#shown = said;
		this.#changed();
		if (!this.isOnline || !this.client.inCall || said === this.#said) return;
		this.#said = said;
		await this.client.updateMedia(media).catch(() => {}); // out of the call meanwhile
	}

	/** @param {RTCIceServer[]} servers */
	#makeMesh(servers) {
		const { audio, video } = this.devices;
		const mesh = new Mesh(this.client, { iceServers: servers, tracks: { audio, video } });
		for (const type of /** @type {const} */ (["peer", "peer-left"]))
			mesh.addEventListener(type, () => {
				if (this.#former && !this.#formerPeers.length) this.#endFormer();
				this.#changed();
			});
		mesh.addEventListener("open", ({ detail }) => mesh.send({ media: this.devices.state }, detail.userId));
		mesh.addEventListener("stats", () => this.dispatchEvent(new Event("stats")));
		mesh.addEventListener("message", ({ detail }) => this.#hearOf(mesh, detail.from, detail.data));
		return mesh;
	}

	// --- what happens to us ---

	#remember() {
		const { group } = this.client;
		if (group) {
			this.place = { id: group.id, name: group.name };
			this.#username ||= group.me.username;
			for (const { id, username } of group.members.values()) this.#names.set(id, username);
			for (const { userId, ...media } of this.client.call.participants.values())
				if (!this.#isDirect(userId)) this.#media.set(userId, media);
			if (this.#wasInCall) this.joinCall().catch((error) => this.#note(sentence(error), "bad"));
			this.#wasInCall = false;
			this.#save();
		}
		this.#changed();
	}

	/** Whether what somebody sends is better known from there. @param {string} userId */
	#isDirect(userId) {
		const peer = this.mesh?.peers.get(userId);
		const isHeard = peer?.state === "connected" || this.client.state !== "online";
		return isHeard && peer !== undefined && this.#direct.has(peer.stream);
	}

	/**
	 * The session is lost. If it was we who were away for too long, the group is still there; if it was the server, not.
	 * @param {string} [id] @param {string} [name]
	 */
	async #restore(id, name) {
		stays.set(null);
		if (!id || !name) return;
		const wasHere = this.place !== null;
		this.place = { id, name };
		if (!wasHere) return this.#over("", true); // another page was, long ago: no camera is on before it is seen
		await this.comeBack();
	}

	/** Try to be where we were; now, and again if need be. */
	async comeBack() {
		clearTimeout(this.#trying);
		try {
			if (this.place) await this.#enterAgain(this.place);
		} catch (error) {
			const code = error instanceof RefusedError ? error.code : "";
			if (this.client.state === "closed" || code === "SESSION_NOT_FOUND") return; // it ends, or begins again
			if (this.group) return this.#note(sentence(error), "bad"); // in it, but not in its call
			// Somebody else may open it, or there is room later.
			if (this.lost || code === "ANSWER_LOST") this.#trying = setTimeout(() => this.comeBack(), TRY_EVERY);
			else this.#over(sentence(error), true);
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
		this.#note(`${inText(username)} has ${what} the group.`, "quiet");
	}

	/** @param {RingEnded} ring */
	#tellRing({ from, to, outcome }) {
		const { userId } = this.client;
		if (from === userId && outcome === "declined") this.#note(`${inText(this.nameOf(to))} declined.`);
		if (from === userId && outcome === "missed" && this.#unanswered.push(to) === 1)
			setTimeout(() => this.#tellUnanswered(), TOGETHER);
		if (to === userId && (outcome === "missed" || outcome === "cancelled"))
			this.#note(`You missed a call from ${inText(this.nameOf(from))}.`);
	}

	/** All of one ring to everyone in one sentence. */
	#tellUnanswered() {
		const ids = this.#unanswered.splice(0);
		this.#note(`${ids.length === 1 ? inText(this.nameOf(ids[0])) : ids.length} did not answer.`);
	}

	/** What a reload needs, or another tab. @returns {SavedStay | null} */
	get saved() {
		const session = this.client.save();
		return session && { session, inCall: this.#wasInCall || !!this.#joining || this.isInCall };
	}

	#save() {
		const { saved } = this;
		if (saved) stays.set(saved);
	}

	/** Another tab of this browser is a member as well. Whether that is news. @param {string} userId */
	meetTwin(userId) {
		if (this.twins.has(userId)) return false;
		this.twins.add(userId);
		this.#note("This group is open in another tab of this browser as well: what comes from there is not played here.");
		this.#changed();
		return true;
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
		clearTimeout(this.#trying);
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
	const answer = await fetch(`${BASE}api/ice`).catch(() => null);
	return answer?.ok ? (await answer.json()).iceServers : null;
}
