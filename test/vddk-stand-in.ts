import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** In the place of VMware's library and of nbdkit's plugin for it. */
export type VddkStandIn = {
  /** What stands for the library's directory. `refuse` and `break` in it make the next open or read fail; `arguments` has what nbdkit was last called with. */
  readonly libdir: string
  /** nbdkit itself, but for the plugin it takes. */
  readonly nbdkit: string
}

/**
 * Nobody may pass on VMware's library, so tests of the transport `vddk` run the real nbdkit with a plugin that takes the same parameters and serves the lab's
 * files through qemu (test/peers/vddk-plugin.sh). What the library itself does is not tested by anything here.
 */
export async function makeVddkStandIn(
  libdir: string,
  lab: { readonly datastores: Readonly<Record<string, string>>; readonly passwordFile: string },
  nbdkit: string,
): Promise<VddkStandIn> {
  await mkdir(join(libdir, 'datastores'), { recursive: true })
  for (const [name, path] of Object.entries(lab.datastores)) await symlink(path, join(libdir, 'datastores', name))
  await copyFile(lab.passwordFile, join(libdir, 'password'))
  // nbdkit with its plugin `vddk` being the stand-in; everything else is handed on as it comes.
  const program = join(libdir, 'nbdkit')
  const plugin = join(import.meta.dirname, 'peers', 'vddk-plugin.sh')
  await writeFile(
    program,
    `#!/bin/bash\nprintf '%s\\n' "$@" >${libdir}/arguments\nset -- "\${@/#vddk/sh}"\nargs=()\nfor each; do args+=("$each"); [ "$each" = sh ] && args+=(${plugin}); done\nexec ${nbdkit} "\${args[@]}"\n`,
  )
  await chmod(program, 0o755)
  return { libdir, nbdkit: program }
}
