# BackupPC 4: pc/web01.pl. $client is the name of the VM ($host turns into the alias).
$Conf{XferMethod} = 'tar';
$Conf{TarShareName} = ['/var/lib/vcb/mnt/web01'];
$Conf{TarClientCmd} = '/usr/bin/sudo -n /usr/bin/env LC_ALL=C /usr/bin/tar -c -v -f - -C $shareName+ --totals';
$Conf{TarFullArgs} = '$fileList+';
$Conf{TarIncrArgs} = '--newer=$incrDate+ $fileList+';
$Conf{DumpPreUserCmd}  = '/usr/bin/sudo -n /usr/local/lib/vcb/integrations/backuppc/pre-backup --vm $client';
$Conf{DumpPostUserCmd} = '/usr/bin/sudo -n /usr/local/lib/vcb/integrations/backuppc/post-backup --vm $client';
$Conf{UserCmdCheckStatus} = 1;
$Conf{ClientNameAlias} = '127.0.0.1';
$Conf{PingCmd} = '&{sub {0}}';
