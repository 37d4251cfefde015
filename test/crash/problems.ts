/** What an end state lacks. `digest`: bytes that are not what a guest wrote; `leftover`: everything else. */
export type Problem = { readonly kind: 'leftover' | 'digest'; readonly what: string }

export const leftover = (what: string): Problem => ({ kind: 'leftover', what })
export const wrongDigest = (what: string): Problem => ({ kind: 'digest', what })
