// One session in a group: the connection to the server, the call with its peers, and the way back after a loss.

import { CallMigration } from "./call-migration.js";
import { attempt, detour, diagnose, sentence } from "./diagnosis.js";
import { BASE, isolate } from "./dom.js";
import { NO_WEBRTC, canCall } from "./media.js";
import { Mesh } from "./mesh.js";
import { errorMessage } from "./notice.js";
import { PeerShare, RefusedError } from "./peershare.js";
import { CloseCode, LOWEST_ROLE, ROLES } from "./protocol.js";
import { forgetSession, saveSession, savedSession } from "./saved-session.js";
import { SIGNED_OUT, signIn } from "./sign-in.js";

/** @import {Devices, Facts, Group, GroupRef, GroupSessionEvents, IceServers, Media, Member, Note, Peer, PeerMessage, RingEnded, SavedSession, SignInOver, Target, Timer} from "./types" */

// In ms.
const REJOIN_INTERVAL = 10_000; // while the server refuses to open the group again
const PATIENCE = 3_000; // ms: most connections are made sooner, and need no words
const CERTIFICATE = { name: "ECDSA", namedCurve: "P-256" }; // as browsers make by themselves
const UNANSWERED_DELAY = 1_000; // rings that end within this time get one message

/** Its events: `GroupSessionEvents` in types.d.ts. */
export class GroupSession extends /** @type {new () => Target<GroupSessionEvents>} */ (EventTarget) {
	/** @type {Mesh | null} */
	mesh = null;
	/** The group, also after the server has forgotten it. @type {GroupRef | null} */
	lastGroup = null;
	/** The server's reason for not opening the forgotten group again yet. */
	reopenError = "";
	/** Members who are other tabs of this browser. @type {Set<string>} */
	otherTabs = new Set();
	/** The end of the last call, by the server's clock. */
	callEndedAt = 0;
	#migration = new CallMigration();
	/** @type {Timer | undefined} */
	#rejoinTimer;
	/** Of members, also of those who have left. @type {Map<string, string>} */
	#names = new Map();
	/** Of participants, as they told last. @type {Map<string, Media>} */
	#media = new Map();
	/** What members may send, also those who have left: their old connections may go on. @type {Map<string, {call: boolean, share: boolean}>} */
	#allowed = new Map();
	/** Streams of peers who tell their media directly: the server's word may be older. @type {WeakSet<MediaStream>} */
	#direct = new WeakSet();
	#wasWeak = false; // our own connection
	#username;
	/** @type {Partial<IceServers>} */
	#iceServers = {};
	#mediaAtServer = ""; // our media as the server was told
	#mediaAtPeers = ""; // and the peers, directly
	#shownFaults = ""; // of our devices
	/** Our certificate in this call: so a peer that was compared with is known again over a new connection. @type {RTCCertificate[]} */
	#certificates = [];
	/** Whether the safety codes matched, by pairs of certificates. @type {Map<string, boolean>} */
	#compared = new Map();
	/** Whom we rang in vain, until the user is told. @type {string[]} */
	#unanswered = [];
	#wasInCall; // before a reload
	#savedIn; // the ID of the group that we were in then
	#mayBeOut = false; // of the call: a server that crashed while we joined may not know of it
	/** @type {Promise<void> | null} */
	#joining = null;

	/** @param {Devices} devices @param {SavedSession | null} saved */
	constructor(devices, saved = null) {
		super();
		this.devices = devices;
		this.#wasInCall = saved?.inCall ?? false;
		this.#username = saved?.session.username ?? "";
		this.#savedIn = saved?.session.groupId ?? "";
		const token = signIn.mayBe ? signIn.sessionToken : undefined;
		const client = (this.client = new PeerShare(undefined, { saved: saved?.session ?? null, token }));
		client.addEventListener("change", () => this.#handleChange());
		client.addEventListener("state", () => this.#tellMedia());
		client.addEventListener("resumed", ({ detail }) => (this.#mayBeOut = !detail.recovered));
		client.addEventListener("session-lost", ({ detail }) => this.#handleSessionLost(detail.groupId, detail.groupName));
		client.addEventListener("lobby", ({ detail }) => this.#note(`You are number ${detail.position} in the lobby.`));
		client.addEventListener("removed", ({ detail }) => this.#handleRemoved(detail));
		client.addEventListener("call-ended", () => {
			if (!this.isInCall) return;
			this.#endCall();
			this.#note("The call was ended.");
		});
		client.addEventListener("closed", ({ detail }) => this.#handleClosed(detail));
		client.addEventListener("member-joined", ({ detail }) => this.#announceMember(detail.member, "joined"));
		client.addEventListener("member-left", ({ detail }) => this.#announceMember(detail.member, "left"));
		// Old connections are not those of members: nobody knows which of them is the one who was removed, or may only listen now.
		client.addEventListener("member-left", ({ detail }) => detail.reason === "kicked" && this.#endMigration());
		client.addEventListener("member-role", () => this.#endMigration());
		client.addEventListener("ring-ended", ({ detail }) => this.#announceRingEnd(detail));
		devices.addEventListener("change", this.#handleDevices);
		addEventListener("pagehide", this.#handlePageHide);
		client.open();
	}

	get group() {
		return this.client.group;
	}

	get isOnline() {
		return this.client.state === "online" && this.group !== null;
	}

	get isInCall() {
		return this.mesh !== null || this.#migration.isRunning;
	}

	/** The peers of the call, each person once. */
	get peers() {
		return this.#migration.peers(this.mesh);
	}

	get link() {
		return `${location.origin}${BASE}group/${this.lastGroup?.id ?? ""}`;
	}

	/** The state for a reload, or for another tab. @returns {SavedSession | null} */
	get saved() {
		const session = this.client.save();
		return session && { session, inCall: this.#wasInCall || !!this.#joining || this.isInCall };
	}

	/** @param {string} userId */
	nameOf(userId) {
		return userId === this.client.userId ? "You" : (this.#names.get(userId) ?? "Somebody");
	}

	/** True if a member is in the call, as far as we know: a peer that said goodbye is not. @param {string} userId */
	isParticipant(userId) {
		const { call, inCall } = this.client;
		const hasLeft = this.mesh !== null && inCall && userId !== this.client.userId && !this.mesh.peers.has(userId);
		return call.participants.has(userId) && !hasLeft;
	}

	/** Whether a member may do this here. @param {Member} member @param {keyof typeof LOWEST_ROLE} action */
	may({ role = "member" }, action) {
		const { whoMayCall = LOWEST_ROLE.call, whoMayShare = LOWEST_ROLE.share } = this.group?.settings ?? {};
		const lowest = { ...LOWEST_ROLE, call: whoMayCall, share: whoMayShare }[action];
		return ROLES.indexOf(role) <= ROLES.indexOf(lowest);
	}

	/** Whether we may remove a member, and change its role; of us, whether we may manage the group. @param {Member} member */
	mayManage({ id, role = "member" }) {
		const me = this.group?.me;
		if (!me || !this.isOnline || !this.may(me, "moderate")) return false;
		return me.id === id || me.role === "owner" || ROLES.indexOf(me.role ?? "member") < ROLES.indexOf(role);
	}

	/** What a participant sends, and may: whatever it says of itself. @param {string} userId @returns {Media} */
	mediaOf(userId) {
		return this.#limit(userId, this.#media.get(userId) ?? { audio: true, video: true, screen: false });
	}

	/** What we send. */
	get ownMedia() {
		return this.#limit(this.client.userId ?? "", this.devices.state);
	}

	/** As the server does. @param {string} userId @param {Media} said @returns {Media} */
	#limit(userId, said) {
		const { call, share } = this.#allowed.get(userId) ?? { call: true, share: true };
		return {
			audio: said.audio && call,
			video: said.video && (said.screen ? share : call),
			screen: said.screen && share,
		};
	}

	/** What is known of a peer's connection. @param {Peer} peer @returns {Facts} */
	factsOf({ userId, evidence: { seen, mine, theirs }, path: { selected } }) {
		const isAway = this.group?.members.get(userId)?.status === "away";
		const lost = this.client.state === "online" ? isAway && "them" : "you";
		const isRelayed = [selected?.local.type, selected?.remote.type].includes("relay");
		return { ...seen, isOnline: navigator.onLine, lost, isRelayed, mine, theirs };
	}

	/** Why a peer is not connected, what is being tried meanwhile, or why the path is slow. @param {Peer} peer */
	statusOf(peer) {
		const name = isolate(this.nameOf(peer.userId));
		const facts = this.factsOf(peer);
		if (peer.state === "failed") return sentence(diagnose(facts), name);
		if (peer.state !== "connected") return performance.now() - peer.changedAt < PATIENCE ? "" : attempt(facts, name);
		const found = detour(facts);
		return found ? sentence(found, name) : "";
	}

	/** Whether the user found the safety code right, or wrong, or has not compared it. @param {Peer} peer */
	comparedWith({ safety }) {
		return !safety || safety.fault === "changed" ? undefined : this.#compared.get(safety.pair);
	}

	// --- actions ---

	/** @param {Peer} peer @param {boolean} matches */
	setCompared({ safety }, matches) {
		if (safety?.state === "ready") this.#compared.set(safety.pair, matches);
		this.#changed();
	}

	/** @param {string} name @param {string} username @param {string} [id] of a group that has ended */
	async createGroup(name, username, id) {
		this.#username = username;
		this.#handleJoined(await this.client.createGroup(name, username, id));
	}

	/** @param {string} id @param {string} username */
	async joinGroup(id, username) {
		this.#username = username;
		this.#handleJoined(await this.client.joinGroup(id, username));
	}

	/** @param {Group} group */
	#handleJoined({ me }) {
		const wanted = this.#username;
		if (me.username !== wanted)
			this.#note(`You are “${isolate(me.username)}” here: there is another ${isolate(wanted)}.`);
		this.reopenError = "";
		this.#changed();
	}

	/** Join the call, or begin it. Further calls meanwhile wait for the same. */
	joinCall() {
		this.#joining ??= this.#joinCall().finally(() => (this.#joining = null));
		return this.#joining;
	}

	async #joinCall() {
		if (!canCall()) throw new Error(NO_WEBRTC);
		if (this.mesh && this.client.inCall) return void (await this.client.joinCall(this.ownMedia)); // to accept a late ring
		this.#iceServers = await this.client.getIceServers().catch(() => this.#iceServers);
		if (!this.#certificates.length)
			this.#certificates = await RTCPeerConnection.generateCertificate(CERTIFICATE).then(Array.of, () => []);
		if (this.client.state === "closed") return;
		this.devices.open(); // meanwhile: tracks are sent as soon as they are there
		this.mesh?.close();
		// The mesh is made first, since the others connect as soon as they know of us.
		const mesh = (this.mesh = this.#makeMesh());
		const media = this.ownMedia;
		this.#mediaAtServer = JSON.stringify(media);
		this.#changed();
		try {
			const others = await this.client.joinCall(media);
			if (this.mesh === mesh) mesh.start(others.map(({ userId }) => userId));
		} catch (error) {
			if (this.mesh === mesh) this.#endCall();
			throw error;
		}
		await this.#sendDevices();
		this.#changed();
	}

	/** Leave the call, but not the group. */
	async leaveCall() {
		this.#endCall();
		if (this.client.inCall) await this.client.leaveCall();
	}

	/** Close the connections, and the devices, so that their lights go out. */
	#endCall() {
		this.mesh?.close();
		this.mesh = null;
		this.#migration.end();
		this.#certificates = [];
		this.#compared.clear();
		this.devices.close();
		this.callEndedAt = this.client.serverNow();
		this.#changed();
	}

	/** Ring one member, or all; begin the call if need be. @param {string} [userId] */
	async ring(userId) {
		if (!this.client.inCall) await this.joinCall();
		// If they rang us in the same moment, they are in the call already.
		if (!userId || !this.client.call.participants.has(userId)) await this.client.ring(userId);
	}

	/** Leave the group for good. */
	leave() {
		this.#dispose();
		this.client.close();
	}

	/** Let the user know of another tab that is a member as well. @param {string} userId @returns {boolean} whether it is new */
	addOtherTab(userId) {
		if (this.otherTabs.has(userId)) return false;
		this.otherTabs.add(userId);
		this.#note("This group is open in another tab of this browser as well: its sound is not played here.");
		this.#changed();
		return true;
	}

	// --- after a loss ---

	/**
	 * The session is lost. If this page was away for too long, the group is still there; if the server was restarted, it is not.
	 * @param {string} [id] @param {string} [name]
	 */
	async #handleSessionLost(id, name) {
		forgetSession();
		this.#mayBeOut = false; // there is another way back
		if (!id || !name) return;
		const wasHere = this.lastGroup !== null;
		this.lastGroup = { id, name };
		if (!wasHere) return this.#emitEnded("", true); // it was an earlier page's: no camera is turned on unseen
		await this.rejoin();
	}

	/** Try to be back in the group, now and, where that may help, again. */
	async rejoin() {
		clearTimeout(this.#rejoinTimer);
		try {
			if (this.lastGroup) await this.#rejoin(this.lastGroup);
		} catch (error) {
			const code = error instanceof RefusedError ? error.code : "";
			if (this.client.state === "closed" || code === "SESSION_NOT_FOUND") return; // it ends, or begins again
			if (this.group) return this.#note(errorMessage(error), "bad"); // it is in the group, but not in its call
			// Another member may open the group, or the server may have space later.
			if (this.reopenError || code === "ANSWER_LOST")
				this.#rejoinTimer = setTimeout(() => this.rejoin(), REJOIN_INTERVAL);
			else this.#emitEnded(errorMessage(error), true);
		}
	}

	/** @param {GroupRef} group */
	async #rejoin(group) {
		const wasInCall = this.isInCall;
		const known = new Set(this.#names.keys());
		try {
			await this.joinGroup(group.id, this.#username);
		} catch (error) {
			// A server that keeps groups has not forgotten this one: it has ended.
			const isKept = this.client.limits.groupTtlSeconds > 0;
			if (isKept || !(error instanceof RefusedError && error.code === "GROUP_NOT_FOUND")) throw error;
			await this.#reopen(group);
		}
		const members = this.group?.members ?? new Map();
		// Where somebody is here whom we know, the server has not forgotten who is here.
		const isRemembered = [...members.keys()].some((id) => known.has(id));
		const isGone = (/** @type {string} */ id) => isRemembered && !members.has(id);
		if (!wasInCall || !this.#migration.start(this.mesh, this.client.userId, isGone)) return;
		this.mesh = null;
		await this.#joining?.catch(() => {}); // to the call as it was
		await this.joinCall();
	}

	/** Open the group that the server has forgotten, under its ID. @param {GroupRef} group */
	async #reopen({ id, name }) {
		try {
			await this.createGroup(name, this.#username, id);
			this.#note(`The server had forgotten “${name}”. It is open again.`);
		} catch (error) {
			this.reopenError = errorMessage(error);
			this.#changed();
			throw error;
		}
	}

	// --- media ---

	#handleDevices = () => {
		const faults = this.devices.faultMessages.join(" ");
		if (this.isInCall && faults && faults !== this.#shownFaults) this.#note(faults, "bad");
		this.#shownFaults = faults;
		this.#sendDevices();
	};

	/** Send the tracks, and tell which there are. */
	async #sendDevices() {
		const { audio, video } = this.#tracks;
		await Promise.all(
			[this.mesh, this.#migration].flatMap((mesh) => [mesh?.setTrack("audio", audio), mesh?.setTrack("video", video)]),
		);
		await this.#tellMedia();
	}

	/** Tell the peers directly, which needs no server, and the server, for those who have no connection to us yet. */
	async #tellMedia() {
		const media = this.ownMedia;
		const told = JSON.stringify(media);
		if (told !== this.#mediaAtPeers) for (const mesh of [this.mesh, this.#migration]) mesh?.send({ media });
		this.#mediaAtPeers = told;
		this.#changed();
		if (!this.isOnline || !this.client.inCall || told === this.#mediaAtServer) return;
		this.#mediaAtServer = told;
		await this.client.updateMedia(media).catch(() => {}); // the call has ended meanwhile
	}

	/** What the others get. */
	get #tracks() {
		const { audio, video, state } = this.devices;
		const may = this.#limit(this.client.userId ?? "", { ...state, audio: true, video: true });
		return { audio: may.audio ? audio : null, video: may.video ? video : null };
	}

	#makeMesh() {
		const mesh = new Mesh(this.client, {
			...this.#iceServers,
			certificates: this.#certificates,
			tracks: this.#tracks,
		});
		for (const type of /** @type {const} */ (["peer", "peer-left"]))
			mesh.addEventListener(type, () => {
				this.#migration.endIfReplaced(this.mesh);
				this.#changed();
			});
		mesh.addEventListener("safety", ({ detail }) => this.#handleSafety(mesh, detail.userId));
		mesh.addEventListener("open", ({ detail }) => mesh.send({ media: this.ownMedia }, detail.userId));
		// They are for the server: no call waits for them.
		const reports = import("./link-reports.js").then(
			({ LinkReports }) => new LinkReports(this.client),
			() => null,
		);
		mesh.addEventListener("stats", () => {
			this.#announceWeakness(mesh);
			reports.then((all) => mesh.peers.forEach((peer) => all?.update(peer, this.factsOf(peer))));
			this.dispatchEvent(new Event("stats"));
		});
		mesh.addEventListener("message", ({ detail }) => this.#handlePeerMessage(mesh, detail.from, detail.data));
		return mesh;
	}

	/** @param {Mesh} mesh @param {string} userId */
	#handleSafety(mesh, userId) {
		const name = isolate(this.nameOf(userId));
		if (mesh.peers.get(userId)?.safety?.fault === "changed")
			this.#note(
				`${name} has another certificate now: somebody may have come between you. Leave the call, and join it again.`,
				"bad",
			);
		this.#changed();
	}

	/** @param {Mesh} mesh @param {string} from @param {PeerMessage} message of a peer, who may send anything */
	#handlePeerMessage(mesh, from, message) {
		const stream = mesh.peers.get(from)?.stream;
		if (message?.media && stream) {
			this.#direct.add(stream);
			this.#setMedia(from, message.media);
		}
		if (typeof message?.as === "string") this.#migration.setNewId(from, message.as);
		this.#changed();
	}

	/** @param {string} userId @param {any} media */
	#setMedia(userId, { audio, video, screen }) {
		this.#media.set(userId, { audio: audio === true, video: video === true, screen: screen === true });
	}

	/** True if a peer has told its media itself, more recently than the server. @param {string} userId */
	#isDirect(userId) {
		const peer = this.mesh?.peers.get(userId);
		const isConnected = peer?.state === "connected" || this.client.state !== "online";
		return isConnected && peer !== undefined && this.#direct.has(peer.stream);
	}

	// --- events of client and page ---

	#handleChange() {
		const { group } = this.client;
		if (group) {
			this.lastGroup = { id: group.id, name: group.name };
			this.#username ||= group.me.username;
			for (const { id, username } of group.members.values()) this.#names.set(id, username);
			this.#followRoles(group);
			for (const { userId, ...media } of this.client.call.participants.values())
				if (!this.#isDirect(userId)) this.#media.set(userId, media);
			const isOut = this.#mayBeOut && this.mesh !== null && !this.#joining && !this.client.inCall;
			if (isOut) this.#mayBeOut = false;
			if (this.#wasInCall || isOut) this.joinCall().catch((error) => this.#note(errorMessage(error), "bad"));
			this.#wasInCall = false;
			this.#save();
		}
		this.#changed();
	}

	/** @param {Group} group */
	#followRoles({ me, members }) {
		const before = this.#allowed.get(me.id);
		for (const member of [me, ...members.values()])
			this.#allowed.set(member.id, { call: this.may(member, "call"), share: this.may(member, "share") });
		const { call = true, share } = this.#allowed.get(me.id) ?? {};
		if (!before || (before.call === call && before.share === share)) return;
		this.#note(`You may ${call ? `speak${share ? " and show your screen" : ""}` : "only watch and listen"} here now.`);
		this.#sendDevices();
	}

	#endMigration() {
		this.#migration.end();
		this.#changed();
	}

	/** @param {{code: number, reason: string}} detail */
	#handleClosed({ code, reason }) {
		if (code === CloseCode.CLOSED) return;
		const saved = savedSession(this.lastGroup?.id ?? this.#savedIn);
		this.#dispose();
		if (code === CloseCode.TOKEN_OVER) return this.#emitEnded(SIGNED_OUT, false, { saved });
		const text =
			code === CloseCode.TAKEN_OVER
				? "This group is open in another window, which has taken over."
				: `The server has closed the connection: ${reason || code}.`;
		this.#emitEnded(text, false);
	}

	/** @param {{by?: string, reason?: string, until?: number}} removed by somebody who has ended the group, or a moderator */
	#handleRemoved({ by, reason = "", until }) {
		this.#dispose();
		const back = until && `You can come back after ${new Date(until).toLocaleString()}.`;
		const texts = ["A moderator has removed you from the group.", isolate(reason), back];
		this.#emitEnded(by ? "The group was ended." : texts.filter(Boolean).join(" "), !by && !until);
	}

	/** Leave the call, lest our picture freezes on the others' screens. As a member we are away, in case of a reload. */
	#handlePageHide = () => {
		this.#save();
		this.mesh?.close();
		this.#migration.end();
		if (this.client.inCall) this.client.leaveCall().catch(() => {});
	};

	#save() {
		const { saved } = this;
		if (saved) saveSession(saved);
	}

	#dispose() {
		removeEventListener("pagehide", this.#handlePageHide);
		this.devices.removeEventListener("change", this.#handleDevices);
		clearTimeout(this.#rejoinTimer);
		forgetSession();
		this.#endCall();
	}

	// --- events for the page ---

	/** @param {Member} member @param {string} verb */
	#announceMember({ username }, verb) {
		this.#note(`${isolate(username)} has ${verb} the group.`, "quiet");
	}

	/** @param {RingEnded} ring */
	#announceRingEnd({ from, to, outcome }) {
		const { userId } = this.client;
		if (from === userId && outcome === "declined") this.#note(`${isolate(this.nameOf(to))} declined.`);
		if (from === userId && outcome === "missed" && this.#unanswered.push(to) === 1)
			setTimeout(() => this.#announceUnanswered(), UNANSWERED_DELAY);
		if (to === userId && (outcome === "missed" || outcome === "cancelled"))
			this.#note(`You missed a call from ${isolate(this.nameOf(from))}.`);
	}

	/** @param {Mesh} mesh */
	#announceWeakness({ isWeak }) {
		if (isWeak && !this.#wasWeak) this.#note("Your video is paused, the connection is weak.", "bad");
		if (!isWeak && this.#wasWeak && this.devices.video) this.#note("Your video is on again.");
		this.#wasWeak = isWeak;
	}

	/** A ring to everyone gets one message. */
	#announceUnanswered() {
		const ids = this.#unanswered.splice(0);
		this.#note(`${ids.length === 1 ? isolate(this.nameOf(ids[0])) : ids.length} did not answer.`);
	}

	/** @param {string} text @param {Note["kind"]} [kind] */
	#note(text, kind = "") {
		this.dispatchEvent(new CustomEvent("note", { detail: { text, kind } }));
	}

	/** @param {string} text @param {boolean} canRetry @param {SignInOver} [signInOver] */
	#emitEnded(text, canRetry, signInOver) {
		this.dispatchEvent(new CustomEvent("ended", { detail: { text, canRetry, signInOver } }));
	}

	#changed() {
		for (const peer of this.peers) peer.play(this.mediaOf(peer.userId));
		this.dispatchEvent(new Event("change"));
	}
}
