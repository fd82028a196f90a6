/** What may be chosen of a guest: help and refusals need no more of it than this. */

/** Names of the guests that come with the package. */
export const GUEST_NAMES = ["linux", "none"] as const;
export type GuestName = (typeof GUEST_NAMES)[number];

/** The guest that runs where none is named. */
export const DEFAULT_GUEST: GuestName = "linux";

/**
 * What a machine may do against the architecture without failing the guest (docs/differences.md says which QEMU
 * does it): `event-class`: the CLASS field of an SMMU's event record is 0. VT-d: `pass-through`: a function leaves
 * it only when its context entry is invalidated; `second-stage-reason`: faults of the second stage have legacy
 * mode's reasons in scalable mode; `cached-permission`: what a cached translation forbids leaves no record;
 * `rid-pasid`: records of requests without PASID have PASID 0; `unreported-fault`: the entry that a request comes to
 * is a host's, which does not tell of faults there; `unnoticed-pasid`: without caching mode a PASID's entry that
 * becomes present is not looked at before it is invalidated.
 */
export const GUEST_TOLERANCES = ["event-class", "pass-through", "second-stage-reason", "cached-permission", "rid-pasid", "unreported-fault", "unnoticed-pasid"] as const;
export type Tolerance = (typeof GUEST_TOLERANCES)[number];

/** Boards that the guest knows in another process. */
export const REMOTE_BOARDS = ["virt", "q35"] as const;
export type RemoteBoard = (typeof REMOTE_BOARDS)[number];
