import type { Clock } from '../../core/index.ts'
import type { Releaser } from '../../journal/index.ts'
import { detachLoop, findLoop } from './loop-device.ts'
import { endPrograms } from './running-programs.ts'
import { markOf, mountedFrom } from './mount-table.ts'
import { endMount } from './end-mount.ts'

/**
 * How what `presentImages` and `presentVolumes` take is found and undone, by any process and from the journal alone: mounts by their place and their source in the mount
 * table, loop devices by number, file and offset, programs by their name and a word of their command line that only ours have. Nothing else is touched.
 */
export function presentReleasers(clock: Clock): {
  readonly fuseMount: Releaser<'fuseMount'>
  readonly loopDevice: Releaser<'loopDevice'>
  readonly volumeMount: Releaser<'volumeMount'>
} {
  return {
    fuseMount: {
      find: async ({ id, args }, options) => {
        // A `mount` of a dead process may still be about to.
        await endPrograms(['mount'], markOf(id), { ...options, clock })
        return (await mountedFrom(args.path, markOf(id))) === undefined ? undefined : { path: args.path }
      },
      release: ({ path }, { id }, options) => endMount({ path, source: markOf(id) }, { ...options, clock }),
    },
    loopDevice: {
      find: async ({ args }, options) => {
        await endPrograms(['losetup'], args.file, { ...options, clock })
        return findLoop(args.file)
      },
      release: (ref, _claim, options) => detachLoop(ref, { ...options, clock }),
    },
    volumeMount: {
      find: async ({ args: { path, source, program } }, options) => {
        await endPrograms(['mount', ...(program === undefined ? [] : [program])], path, { ...options, clock })
        return (await mountedFrom(path, source)) === undefined ? undefined : { path }
      },
      release: async ({ path }, { args: { source, program } }, options) => {
        await endMount({ path, source }, { ...options, clock })
        // It ends when it is unmounted.
        if (program !== undefined) await endPrograms([program], source, { ...options, clock })
      },
    },
  }
}
