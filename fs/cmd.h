/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the program, one function each: `vmcryptfs NAME ARGUMENT...`. argv[0]
 * is the command's name, getopt's state is fresh; the answer is an exit code
 * (exitcode.h).
 */
#ifndef VCF_FS_CMD_H
#define VCF_FS_CMD_H

#include <stddef.h>

#include "fs/exitcode.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage; /* what follows the name: "[-v] CONFIG" */
	const char *help;  /* sentences, lines of at most 78 characters */
};

/* The table, in the order of `help`; it ends with a NULL name. main.c has it. */
extern const struct command commands[];

/* The command of that name, or NULL. */
const struct command *command_find(const char *name);

/* Prints "usage: vmcryptfs NAME USAGE" to stderr; returns EXIT_USAGE. */
int command_usage(const char *name);

int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_log_level(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_support(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_upgrade_probe(int argc, char **argv); /* for a keeper; not in the table */
int cmd_info(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_repair(int argc, char **argv);
int cmd_header(int argc, char **argv);
int cmd_encrypt(int argc, char **argv);
int cmd_decrypt(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_materialize(int argc, char **argv);
int cmd_trim(int argc, char **argv);
int cmd_libvirt_secret(int argc, char **argv);
int cmd_token_open(int argc, char **argv); /* for cryptsetup's plugin; not in the table */
int cmd_adopt(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_rekey(int argc, char **argv);
int cmd_shred(int argc, char **argv);
int cmd_check_config(int argc, char **argv);
int cmd_check_tree(int argc, char **argv);
int cmd_check_mount(int argc, char **argv);
int cmd_guard(int argc, char **argv);
int cmd_check_keys(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_help(int argc, char **argv);

/* Their entries' texts. */
#define CMD_MOUNT_USAGE                                                                  \
	"[-f] [--with-plaintext] [-o section.key=value]... (CONFIG | BACKING "           \
	"MOUNTPOINT)"
#define CMD_MOUNT_HELP                                                                   \
	"Mounts the plain view of a backing folder. Returns when the mount answers.\n"   \
	"  -f                stay in the foreground; log to stderr without a log-file\n" \
	"  --with-plaintext  mount although files lie in the clear where images "        \
	"should\n"                                                                       \
	"                    be; those files are not opened\n"                           \
	"  -o                set an option of the configuration (see: help config)\n"    \
	"BACKING MOUNTPOINT with -o file.directory=DIR uses the `file` key helper: "     \
	"for\n"                                                                          \
	"trying and for tests."
#define CMD_UMOUNT_USAGE "[-l | -f] [-r RUNTIME-DIRECTORY] MOUNTPOINT"
#define CMD_UMOUNT_HELP                                                                    \
	"Unmounts and waits until the daemon has ended and its keys are wiped. While\n"    \
	"somebody uses the mount it refuses (exit code 5), and names the guests and\n"     \
	"programs.\n"                                                                      \
	"  -l, --lazy   detach now, end when the last file is closed\n"                    \
	"  -f, --force  detach now, end after 10 seconds: who has files open then loses\n" \
	"               them\n"                                                            \
	"  -r  the mount's runtime-directory, if not /run/vmcryptfs; with a\n"             \
	"      wrong one it is unmounted, but not waited for"
#define CMD_STATUS_USAGE "[--images | --json] [-r RUNTIME-DIRECTORY] [MOUNTPOINT]"
#define CMD_STATUS_HELP                                                                  \
	"Shows a mount, or all of them.\n"                                               \
	"Its servers, the key services, what waits, how many images have a key, and\n"   \
	"which guests and programs would lose their files if the mount were stopped\n"   \
	"(root sees all).\n"                                                             \
	"  --images  lists these, with their figures\n"                                  \
	"  --json    one JSON object with all of it; an array without MOUNTPOINT\n"      \
	"  -r        the mounts' runtime-directory, if not /run/vmcryptfs"
#define CMD_LOG_LEVEL_USAGE                                                              \
	"[-r RUNTIME-DIRECTORY] MOUNTPOINT [err | warn | info | dbg | configured]"
#define CMD_LOG_LEVEL_HELP                                                                  \
	"Sets how much a mount logs, at once, until it ends.\n"                             \
	"Deaths of the server, reloads and upgrades change nothing about it. configured:\n" \
	"log-level of the configuration decides again. Without a level: prints which was\n" \
	"asked for.\n"                                                                      \
	"  -r  the mount's runtime-directory, if not /run/vmcryptfs"
#define CMD_METRICS_USAGE                                                                \
	"[--once | --list | --listen ADDRESS | --file FILE] [--per-image] [-c CONFIG]\n" \
	"       [-r RUNTIME-DIRECTORY] [MOUNTPOINT...]"
#define CMD_METRICS_HELP                                                                     \
	"Tells Prometheus about mounts: those named, or the one of CONFIG, or all. It\n"     \
	"asks the mounts' status sockets, so it runs as root, best as a unit of its own.\n"  \
	"It has no part in serving and may be stopped at any time.\n"                        \
	"  --listen     127.0.0.1:PORT, [::1]:PORT or unix:/PATH, for scrapes of /metrics\n" \
	"  --file       a file that is written every 15 s (interval), for node_exporter\n"   \
	"  --per-image  also series for each image, for those with the most requests\n"      \
	"  --once       print them and end\n"                                                \
	"  --list       print which there are: name, type, meaning\n"                        \
	"  -c           [metrics] of this configuration has the settings; those of the\n"    \
	"               command line win\n"                                                  \
	"  -r           the mounts' runtime-directory, if not /run/vmcryptfs"
#define CMD_SUPPORT_USAGE                                                                \
	"[-o FILE.tar[.gz]] [--anonymous] [--log-lines N] [-c CONFIG] [-r DIR]\n"        \
	"       [MOUNTPOINT]"
#define CMD_SUPPORT_HELP                                                                      \
	"Puts what a developer asks for first into an archive.\n"                             \
	"Mode 0600: versions, the status, the configuration, limits, mounts, the end of\n"    \
	"the log. No secrets: of key helpers' options only harmless values, and what looks\n" \
	"like a secret in any text is masked. No header and no data of an image.\n"           \
	"  --anonymous  no paths, names, key ids, addresses either, so no log\n"              \
	"  --log-lines  so many of its last lines (2000)\n"                                   \
	"  -c           the configuration, if the mount does not tell\n"                      \
	"  -r           the mount's runtime-directory, if not /run/vmcryptfs"
#define CMD_TOP_USAGE                                                                    \
	"[-b | --once] [-d SECONDS] [-n COUNT] [-s KEY] [-r DIR] [MOUNTPOINT]"
#define CMD_TOP_HELP                                                                       \
	"Shows live what the images of a mount are doing.\n"                               \
	"Requests and MiB a second, how long they take. Keys: q quits; i, b, m, p, o, n\n" \
	"sort; arrows and page keys.\n"                                                    \
	"  -b      as text, without end or -n times; --once is -b -n 1\n"                  \
	"  -d      seconds between two looks (2)\n"                                        \
	"  -s      by iops, bytes, mean, p99, opens or name\n"                             \
	"  -r      the mount's runtime-directory, if not /run/vmcryptfs"
#define CMD_DRAIN_USAGE "[--wait DURATION | --cancel] [-r RUNTIME-DIRECTORY] MOUNTPOINT"
#define CMD_DRAIN_HELP                                                                     \
	"Keeps new guests off a mount that will be stopped. No image is opened any more\n" \
	"that nobody uses, and none is made (ESHUTDOWN); guests that run go on, and may\n" \
	"be moved away. Waits until nobody uses the mount and names who does.\n"           \
	"  --wait    at most so long; then exit code 5, and it stays draining\n"           \
	"  --cancel  images are opened again\n"                                            \
	"  -r        the mount's runtime-directory, if not /run/vmcryptfs"
#define CMD_UPGRADE_USAGE "[--binary PROGRAM] [-r RUNTIME-DIRECTORY] MOUNTPOINT"
#define CMD_UPGRADE_HELP                                                                 \
	"Lets this program take over a mount that another one serves. Nothing is "       \
	"unmounted;\n"                                                                   \
	"requests wait a moment. If the new program refuses or does not serve, the old " \
	"one\n"                                                                          \
	"goes on, and the exit code is not 0.\n"                                         \
	"  --binary  the program to take over, if not this one; only root may\n"         \
	"            write to it, and its key helpers are installed or beside it\n"      \
	"  -r        the mount's runtime-directory, if not /run/vmcryptfs"
#define CMD_INFO_USAGE "[--json] [-c CONFIG] [-o section.key=value]... [-r DIR] FILE..."
#define CMD_INFO_HELP                                                                    \
	"Says what an image is, from either side of the mount. Also how cryptsetup\n"    \
	"opens its container without this program.\n"                                    \
	"  -c, -o  with a configuration, or with -o file.directory=DIR, the secret is\n" \
	"          fetched and the header's MAC checked\n"                               \
	"  -r      the mounts' runtime-directory, if not /run/vmcryptfs"
#define CMD_VERIFY_USAGE                                                                 \
	"[--full] [--parallel N] [--json] -c CONFIG\n"                                   \
	"       [-o section.key=value]... (--all | FILE...)"
#define CMD_VERIFY_HELP                                                                    \
	"Says whether images are sound, by either name, also while they are in use.\n"     \
	"Nothing is changed, nobody is kept out. Of each: the header, both its copies,\n"  \
	"is one that this program writes; its secret is at the key service, opens the\n"   \
	"key slot and has made the MAC; the volume key is the right one; the size and\n"   \
	"the bytes that only tell it are in order. What is wrong is named, with the way\n" \
	"out; the exit code is that of the first such file.\n"                             \
	"  --all       the images of the backing folder, and the devices\n"                \
	"  --full      also read all data, from the disk: finds what cannot be read.\n"    \
	"              What is read proves nothing: AES-XTS has no checksum\n"             \
	"  --parallel  so many files at a time\n"                                          \
	"  --json      one object a file on standard output: path, result, faults\n"       \
	"  -c, -o      the mount's configuration"
#define CMD_REPAIR_USAGE                                                                 \
	"[--dry-run] [--parallel N] [--json] -c CONFIG\n"                                \
	"       [-o section.key=value]... [-r DIR] FILE..."
#define CMD_REPAIR_HELP                                                                   \
	"Mends what can be mended of images that nobody has open.\n"                      \
	"That is a damaged copy of a header, the torn first page of LUKS1, remains of\n"  \
	"old key slots, and files whose size says nothing because they were cut. Their\n" \
	"secrets must open them: what is written is proven. Bytes of data that go are\n"  \
	"kept in the state directory, and the file is named. What cannot be mended is\n"  \
	"refused, with what may help.\n"                                                  \
	"  --dry-run   say what would be done\n"                                          \
	"  --parallel  so many files at a time\n"                                         \
	"  --json      one object a file on standard output\n"                            \
	"  -c, -o      the mount's configuration\n"                                       \
	"  -r          the mounts' runtime-directory, if not the configuration's"
#define CMD_HEADER_USAGE                                                                 \
	"backup -c CONFIG [-o section.key=value]... [--json]\n"                          \
	"       --output NEW FILE | restore -c CONFIG [-o section.key=value]...\n"       \
	"       [--json] [-r DIR] [--force-with-uuid UUID] SAVED FILE"
#define CMD_HEADER_HELP                                                                    \
	"Saves what an image cannot be opened without, and puts it back.\n"                \
	"What is saved is encrypted by the image's secret, which stays at the key\n"       \
	"service; with that secret it opens the image, so save it anew after the secret\n" \
	"was changed, and throw the old one away. restore is for an image that nobody\n"   \
	"has open and whose header does not open it any more: if that opens, or the\n"     \
	"saved one does not or is of another volume key, nothing is written.\n"            \
	"  --output           the new file; also while the image is in use\n"              \
	"  --force-with-uuid  the header is gone and the data does not tell: the uuid,\n"  \
	"                     which is the saved one's, answers for it; what is\n"         \
	"                     overwritten is kept in the state directory\n"                \
	"  --json             the outcome as an object\n"                                  \
	"  -c, -o             the mount's configuration\n"                                 \
	"  -r                 the mounts' runtime-directory, if not the configuration's"
#define CMD_MATERIALIZE_USAGE                                                            \
	"[--parallel N] [--json] -c CONFIG [-o section.key=value]...\n"                  \
	"       [-r DIR] FILE..."
#define CMD_MATERIALIZE_HELP                                                              \
	"Fills holes with encrypted zeros, in images that nobody has open.\n"             \
	"Their headers then say that they have none, and they take their whole size on\n" \
	"disk. Other programs (cryptsetup, QEMU's luks driver) read holes as noise.\n"    \
	"  --parallel  so many files at a time\n"                                         \
	"  --json      one object a file on standard output\n"                            \
	"  -c, -o      the mount's configuration\n"                                       \
	"  -r          the mounts' runtime-directory, if not the configuration's"
#define CMD_TRIM_USAGE                                                                   \
	"[--parallel N] [--json] -c CONFIG [-o section.key=value]...\n"                  \
	"       [-r DIR] FILE..."
#define CMD_TRIM_HELP                                                                    \
	"Gives the space of zeros back, in images that nobody has open.\n"               \
	"What decrypts to whole blocks of zeros becomes a hole. Who sees the backing\n"  \
	"file then sees where the zeros are. Refused where the header says that there\n" \
	"are no holes.\n"                                                                \
	"  --parallel  so many files at a time\n"                                        \
	"  --json      one object a file on standard output\n"                           \
	"  -c, -o      the mount's configuration\n"                                      \
	"  -r          the mounts' runtime-directory, if not the configuration's"
#define CMD_LIBVIRT_SECRET_USAGE                                                         \
	"[--connect URI] [--persistent | --print] -c CONFIG\n"                           \
	"       [-o section.key=value]... FILE"
#define CMD_LIBVIRT_SECRET_HELP                                                           \
	"Lets libvirt's guests open an image without the mount.\n"                        \
	"Defines its secret at libvirt, by virsh, and prints the disk's XML. For LUKS1\n" \
	"without holes (see: convert, materialize). Never both at a time, such a guest\n" \
	"and the mount. libvirt keeps the secret in memory alone: it is gone when\n"      \
	"libvirt is restarted.\n"                                                         \
	"  --connect     libvirt's URI, as virsh -c\n"                                    \
	"  --persistent  libvirt writes the secret to its disk, in the clear\n"           \
	"  --print       print the secret's XML, too, without its value; nothing is\n"    \
	"                defined\n"                                                       \
	"  -c, -o        the mount's configuration"
#define CMD_ADOPT_USAGE                                                                  \
	"--reclone -c CONFIG [-o section.key=value]... [-r DIR] FILE... |\n"             \
	"       --key-id ID [--service NAME] [--holes none|zero] -c CONFIG\n"            \
	"       [-o section.key=value]... [-r DIR] FILE"
#define CMD_ADOPT_HELP                                                                      \
	"Makes containers that the mount did not make images of it. Each gets a new\n"      \
	"uuid, a fresh secret of the service and a key slot for it; all other key slots\n"  \
	"go. FILE lies in the backing folder and is not in use; its data is not touched.\n" \
	"  --reclone  copies of our own that were made below the mount (cp, a storage\n"    \
	"             clone). A copy shares its volume key with its source all the same:\n" \
	"             whoever had the one can read the other\n"                             \
	"  --key-id   a LUKS container of somebody else (cryptsetup, qemu-img, Cinder)\n"   \
	"             whose passphrase is the secret ID at the service, as hex text or\n"   \
	"             raw. That secret stays, and opens the image no more\n"                \
	"  --service  the service that has it, if not that of FILE's rule\n"                \
	"  --holes    none (default): each byte reads as before. zero: sectors that were\n" \
	"             never written read as zeros, and discards free them: right for a\n"   \
	"             container that is new or whose guest does not care\n"                 \
	"  -c, -o     the mount's configuration\n"                                          \
	"  -r         the mounts' runtime-directory, if not the configuration's"
#define CMD_ENCRYPT_USAGE                                                                \
	"-c CONFIG [--wipe] [--no-verify] [--parallel N] [--json] [-r DIR]\n"            \
	"       (--all | PATH...)"
#define CMD_ENCRYPT_HELP                                                                   \
	"Makes images of plaintext files in the backing folder, as the rules say.\n"       \
	"A file is copied into a container beside it, compared, and exchanged with it;\n"  \
	"owner, mode, times, attributes and holes stay. Killed at any point, it is the\n"  \
	"old file or the new one, and the next run cleans up. A file that somebody has\n"  \
	"open is refused. PATH may be a name in the mount.\n"                              \
	"  --all        all plaintext that is covered by an encrypt or derived rule\n"     \
	"  --wipe       overwrite and discard the old file's blocks. Of what an SSD has\n" \
	"               put aside, of snapshots, backups and copy-on-write file systems\n" \
	"               nothing can be promised\n"                                         \
	"  --no-verify  do not read and compare what was written\n"                        \
	"  --parallel   so many files at a time\n"                                         \
	"  --json       one object a line\n"                                               \
	"  -r           the mounts' runtime-directory, if not the configuration's"
#define CMD_DECRYPT_USAGE                                                                \
	"-c CONFIG (--output FILE | --output-dir DIR |\n"                                \
	"       --replace-by-plaintext [--destroy-now]) [--no-verify] [--parallel N]\n"  \
	"       [--json] [-r RUNTIME-DIRECTORY] PATH..."
#define CMD_DECRYPT_HELP                                                                    \
	"Writes the plaintext of images that nobody has open.\n"                            \
	"Where it goes is to be said, since plaintext at an image's place is refused by\n"  \
	"the mount. Killed at any point, there is the whole of a file or none of it.\n"     \
	"  --output      FILE, outside the backing folder; the image stays\n"               \
	"  --output-dir  below DIR, with the place it has below the backing folder; the\n"  \
	"                images stay\n"                                                     \
	"  --replace-by-plaintext\n"                                                        \
	"                in the image's own place: for a folder that is to be used\n"       \
	"                without the mount from now on, or that gets a passthrough rule.\n" \
	"                The image's secret goes the way of a deleted image's\n"            \
	"  --destroy-now its secret is destroyed at once, not after destroy-delay\n"        \
	"  --no-verify   do not read and compare what was written\n"                        \
	"  --parallel    so many files at a time\n"                                         \
	"  --json        one object a line\n"                                               \
	"  -r            the mounts' runtime-directory, if not the configuration's"
#define CMD_CONVERT_USAGE                                                                \
	"-c CONFIG [--format luks1|luks2] [--sector-size 512|4096]\n"                    \
	"       [--data-offset SIZE] [--destroy-now] [--no-verify] [--parallel N]\n"     \
	"       [--json] [-r RUNTIME-DIRECTORY] (--all | PATH...)"
#define CMD_CONVERT_HELP                                                                  \
	"Gives images that nobody has open another form.\n"                               \
	"That is LUKS1 or LUKS2, the sector size, where the data begins.\n"               \
	"The image is written anew beside the old one, with a new volume key and a new\n" \
	"secret, compared, and exchanged with it; the old secret goes the way of a\n"     \
	"deleted image's. Killed at any point, it is the old image or the new one, and\n" \
	"the next run cleans up. What is not given stays, but that LUKS1 has sectors\n"   \
	"of 512 bytes.\n"                                                                 \
	"  --format       luks1 is what QEMU opens by itself\n"                           \
	"  --data-offset  1M to 64M, whole pages; LUKS1: 2M at least\n"                   \
	"  --all          all images of the backing folder\n"                             \
	"  --destroy-now  the old secret is destroyed at once, not after destroy-delay\n" \
	"  --no-verify    do not read and compare what was written\n"                     \
	"  --parallel     so many files at a time\n"                                      \
	"  --json         one object a line\n"                                            \
	"  -r             the mounts' runtime-directory, if not the configuration's"
#define CMD_REKEY_USAGE                                                                  \
	"[--service NAME] [--destroy-now] [--parallel N] [--json] [-c CONFIG]\n"         \
	"       [-o section.key=value]... [-r DIR] (FILE... | --all | --older-than DURATION)"
#define CMD_REKEY_HELP                                                                   \
	"Gives images a new secret of their key service.\n"                              \
	"The old one is destroyed after destroy-delay.\n"                                \
	"Their data stays as it is, and so does the volume key. Guests go\n"             \
	"on: of a mount that is served, the server does it. What was cut short is\n"     \
	"completed by the same command.\n"                                               \
	"  --all          all images of CONFIG's mount\n"                                \
	"  --older-than   those whose secret is older, as 90d; also of all\n"            \
	"  --service      the new secret is made at this service; of all images those\n" \
	"                 that are there already are left alone\n"                       \
	"  --destroy-now  the old secret is destroyed at once\n"                         \
	"  --parallel     so many at a time\n"                                           \
	"  --json         one object a line for each file, and for progress\n"           \
	"  -c, -o, -r     as for adopt; of a mount that is served, FILE alone will do"
#define CMD_SHRED_USAGE                                                                  \
	"--yes [--receipt FILE] [--keep-file] [--parallel N] [--json] -c CONFIG\n"       \
	"       [-o section.key=value]... [-r DIR] FILE..."
#define CMD_SHRED_HELP                                                                    \
	"Destroys images at once.\n"                                                      \
	"The header is overwritten, then the secret destroyed\n"                          \
	"at the key service, without a delay, then the file removed. For each that the\n" \
	"service has acknowledged there is a receipt, a line of JSON. NOBODY CAN UNDO\n"  \
	"THIS. What is in use is refused (exit code 5). Cut short, the same command\n"    \
	"completes it.\n"                                                                 \
	"  --yes        says that it is meant\n"                                          \
	"  --receipt    the receipts go to the end of this file, not to the output\n"     \
	"  --keep-file  what is left of the file stays: ciphertext\n"                     \
	"  --parallel   so many at a time\n"                                              \
	"  --json       one object a line for each file, with its receipt\n"              \
	"  -c, -o, -r   as for adopt"
#define CMD_RECOVER_USAGE                                                                \
	"--escrow-key PRIVATE [--out-key KEYFILE [--any-disk]] [--print-cryptsetup]\n"   \
	"       FILE... | --escrow-key PRIVATE --to-service -c CONFIG\n"                 \
	"       [-o section.key=value]... [-r DIR] FILE..."
#define CMD_RECOVER_HELP                                                                  \
	"Opens containers without the key service, by their escrow tokens. Each is\n"     \
	"checked like at any open (MAC, volume key); without more options that is all.\n" \
	"  --escrow-key        the private key that escrow-keygen made\n"                 \
	"  --out-key           write the secret of one FILE as a key file for\n"          \
	"                      cryptsetup, mode 0600, in memory (tmpfs)\n"                \
	"  --any-disk          allow the key file on a disk\n"                            \
	"  --print-cryptsetup  print how cryptsetup opens FILE with it\n"                 \
	"  --to-service        give FILE a new secret at the service of -c: after its\n"  \
	"                      secrets were lost. FILE is not in use\n"                   \
	"  -c, -o, -r          as for adopt"
#define CMD_CHECK_CONFIG_USAGE "[-v] [-o section.key=value]... CONFIG"
#define CMD_CHECK_CONFIG_HELP                                                            \
	"Reads a configuration and names all its faults. Nothing is started or "         \
	"changed.\n"                                                                     \
	"  -v  show the effective configuration; of the key helpers' options only the\n" \
	"      names are shown"
#define CMD_CHECK_TREE_USAGE                                                             \
	"[-o section.key=value]... [--list-all] (-c CONFIG | BACKING)"
#define CMD_CHECK_TREE_HELP                                                              \
	"Says what each file below is, and which class it has. "                         \
	"Nothing is changed\nand no key is needed: it is the dry run of a mount.\n"      \
	"Files in the clear where images should be make it end with exit code 6.\n"      \
	"  --list-all  list every file, not only those with a fault"
#define CMD_CHECK_MOUNT_USAGE "[-q] [-t SECONDS] MOUNTPOINT"
#define CMD_CHECK_MOUNT_HELP                                                                \
	"Ends with 0 only if the path is on a vmcryptfs that answers. As the caller sees\n" \
	"it, so in a container, too. Else: 4 nothing is mounted, and no file can be\n"      \
	"made in the folder; 10 another file system is; 11 the daemon is gone; 12 it\n"     \
	"does not answer in time; 13 nothing is mounted, and THE FOLDER IS NOT GUARDED.\n"  \
	"  -q  says nothing\n"                                                              \
	"  -t  how long to wait for an answer; default 10"
#define CMD_GUARD_USAGE "[--on | --off] MOUNTPOINT"
#define CMD_GUARD_HELP                                                                        \
	"Shows whether the bare folder under a mount can be written to. Exit code 13: a\n"    \
	"file can be made there while nothing is mounted over it. Also while something is.\n" \
	"  --on   make the empty folder immutable, mode 0: as a mount does with\n"            \
	"         mount.guard = yes\n"                                                        \
	"  --off  the way back: mutable, mode 0755"
#define CMD_CHECK_KEYS_USAGE                                                             \
	"[--json] [--service NAME] [-o section.key=value]... -c CONFIG"
#define CMD_CHECK_KEYS_HELP                                                                \
	"Tries the key service with a secret that is thrown away. Says what works, how\n"  \
	"long it takes, which right or certificate is missing, and what a thief of this\n" \
	"credential could do. Where it may not delete, the test secret stays: its id is\n" \
	"printed, and it is put into the queue of the configuration's mount.\n"            \
	"  --json     one JSON object\n"                                                   \
	"  --service  the service's name, if there are several"
#define CMD_KEYS_USAGE "SUBCOMMAND [OPTION]... [ARGUMENT]..."
#define CMD_KEYS_HELP                                                                      \
	"Shows and decides what becomes of secrets. MOUNT is -c CONFIG, or [-r DIR]\n"     \
	"MOUNTPOINT where a daemon serves it.\n"                                           \
	"  pending [--json] MOUNT            what waits for its end, and suspects\n"       \
	"  restore-pending MOUNT (--all | UUID | KEY-ID | PATH)...\n"                      \
	"                                    the secrets of these are kept after all\n"    \
	"  drop-suspect --forget MOUNT (UUID | KEY-ID | PATH)...\n"                        \
	"                                    the secret stays, nobody remembers it\n"      \
	"  confirm --destroy MOUNT (UUID | KEY-ID | PATH)...\n"                            \
	"                                    a suspect's secret goes all the same\n"       \
	"  list [--json] -c CONFIG [PREFIX]  what the service has: id, label, created\n"   \
	"  inventory -c CONFIG > FILE        what this host has a use for\n"               \
	"  orphans -c CONFIG --hosts NAME,... [--json] [--queue REPORT] FILE...\n"         \
	"          [--older-than 7d] [--max-age 1d] [--apart 1d] [--more-than-in-use]\n"   \
	"                                    secrets that no host has a use for, by the\n" \
	"                                    inventories of all; --queue: those that an\n" \
	"                                    earlier report (--json) has, too, begin\n"    \
	"                                    their destroy-delay\n"                        \
	"  reap -c CONFIG --hosts NAME,... [--max-age 1d] FILE... > RECEIPTS\n"            \
	"                                    destroys what is due on hosts that may not\n" \
	"  reaped MOUNT RECEIPTS             closes what was destroyed elsewhere\n"        \
	"  escrow-keygen FILE                makes a key pair for [escrow] public-key:\n"  \
	"                                    the private key in FILE, not for a node,\n"   \
	"                                    the public one in FILE.pub\n"                 \
	"list, orphans and reap take --service NAME where there are several."
#define CMD_HELP_USAGE "[COMMAND | config]"
#define CMD_HELP_HELP                                                                    \
	"Lists the commands, or explains one. help config explains all options of\n"     \
	"the configuration."

#endif
