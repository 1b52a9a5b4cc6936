// A call that goes on while the server has forgotten its group: each old connection stays until there is a new one.

/** @import {Mesh, Peer} from "./types" */

const MAX_AGE = 120_000; // ms: some members notice late that the server was restarted

/** The old mesh of a call. To its peers we will be somebody new, and they to us: both sides tell their new IDs. */
export class CallMigration {
	/** @type {Mesh | null} */
	#oldMesh = null;
	/** The new user IDs of its peers, by their old ones. @type {Map<string, string>} */
	#newIds = new Map();

	get isRunning() {
		return this.#oldMesh !== null;
	}

	/** All whose old connection works and who have no new one. What breaks there can't be repaired. @param {Mesh | null} mesh */
	#remaining(mesh) {
		const isReplaced = (/** @type {string} */ id) => mesh?.peers.get(this.#newIds.get(id) ?? "")?.state === "connected";
		return [...(this.#oldMesh?.peers.values() ?? [])].filter(
			({ userId, state }) => state === "connected" && !isReplaced(userId),
		);
	}

	/** The peers of both meshes, each person once. @param {Mesh | null} mesh the new one @returns {Peer[]} */
	peers(mesh) {
		const remaining = this.#remaining(mesh);
		const newIds = new Set(remaining.map(({ userId }) => this.#newIds.get(userId)));
		const current = [...(mesh?.peers.values() ?? [])];
		return [...current.filter(({ userId }) => !newIds.has(userId)), ...remaining];
	}

	/**
	 * Keep the connections of this mesh, and tell its peers our new user ID. If one is kept already, that one stays.
	 * @param {Mesh | null} mesh @param {string | null} userId
	 * @param {(id: string) => boolean} isGone whether somebody has left, or was removed, while we were away @returns {boolean} whether there is one
	 */
	start(mesh, userId, isGone) {
		const kept = this.#oldMesh ?? mesh;
		if (!kept) return false;
		if (mesh !== kept) mesh?.close();
		this.#oldMesh = kept;
		kept.detach();
		for (const id of [...kept.peers.keys()]) if (isGone(this.#newIds.get(id) ?? id)) kept.removePeer(id);
		kept.send({ as: userId });
		setTimeout(() => kept === this.#oldMesh && this.end(), MAX_AGE);
		return true;
	}

	/** @param {string} userId @param {string} newId */
	setNewId(userId, newId) {
		this.#newIds.set(userId, newId);
	}

	/** @param {Mesh | null} mesh the new one */
	endIfReplaced(mesh) {
		if (this.#oldMesh && !this.#remaining(mesh).length) this.end();
	}

	end() {
		this.#oldMesh?.close();
		this.#oldMesh = null;
	}

	/** @param {any} data any JSON */
	send(data) {
		this.#oldMesh?.send(data);
	}

	/** @param {"audio" | "video"} kind @param {MediaStreamTrack | null} track */
	async setTrack(kind, track) {
		await this.#oldMesh?.setTrack(kind, track);
	}
}
