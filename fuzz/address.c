/* Socket addresses. */
#include "posix/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "fuzz.h"

/* Check an address that was accepted: it is the same when it is written and read again. */
static void check(const char *text, const struct ld_address *address) {
    struct ld_address again;
    char host[INET6_ADDRSTRLEN];
    char written[256];
    const char *path = ld_address_path(address);
    if (path != NULL) {
        FUZZ_CHECK(address->storage.ss_family == AF_UNIX && path[0] == '/');
        snprintf(written, sizeof written, "unix:%s", path);
        FUZZ_CHECK(strcmp(written, text) == 0);
    } else if (address->storage.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
        FUZZ_CHECK(inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host) != NULL);
        snprintf(written, sizeof written, "%s:%d", host, ntohs(v4->sin_port));
    } else {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
        FUZZ_CHECK(address->storage.ss_family == AF_INET6);
        FUZZ_CHECK(inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host) != NULL);
        snprintf(written, sizeof written, "[%s]:%d", host, ntohs(v6->sin6_port));
    }
    FUZZ_CHECK(address->size <= sizeof address->storage);
    FUZZ_CHECK(ld_address_parse(written, &again) && again.size == address->size &&
               memcmp(&again.storage, &address->storage, address->size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_address address;
    char *text = fuzz_rest(&input);
    if (ld_address_parse(text, &address)) {
        check(text, &address);
    } else {
        const char *fault = ld_address_fault(text);
        FUZZ_CHECK(fault != NULL && fault[0] != '\0');
    }
    free(text);
    return 0;
}
