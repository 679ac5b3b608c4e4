// Misbehaves as the request's `x-misbehave` asks for, in the ways that C has of its own.

#include "stateful_plugin.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool is(tidegate_plugin_http_field_value_t value, const char *how) {
    return value.len == strlen(how) && memcmp(value.ptr, how, value.len) == 0;
}

static void spin(void) {
    for (volatile int i = 0;; i++) {}
}

// Until there is no more. The compiler leaves out what is allocated and never used.
static void allocate(void) {
    for (;;) {
        volatile char *piece = malloc(1 << 20);
        if (piece == NULL) abort();
        *piece = 1;
    }
}

bool exports_tidegate_plugin_configure_hook_configure(stateful_plugin_string_t *config, stateful_plugin_string_t *err) {
    stateful_plugin_string_free(config);
    return true;
}

bool exports_tidegate_plugin_request_hook_on_request(exports_tidegate_plugin_request_hook_borrow_request_t request,
                                                     exports_tidegate_plugin_request_hook_verdict_t *ret,
                                                     stateful_plugin_string_t *err) {
    stateful_plugin_string_t name = {.ptr = (uint8_t *)"x-misbehave", .len = 11};
    tidegate_plugin_http_field_value_t how;
    bool is_there = tidegate_plugin_http_method_request_header(request, &name, &how);
    tidegate_plugin_http_request_drop_borrow(request);
    ret->tag = TIDEGATE_PLUGIN_HTTP_VERDICT_FORWARD;
    if (!is_there) return true;
    if (is(how, "spin")) spin();
    if (is(how, "raise")) assert(!"raised in C");
    if (is(how, "allocate")) allocate();
    bool is_error = is(how, "error");
    tidegate_plugin_http_field_value_free(&how);
    if (is_error) stateful_plugin_string_dup(err, "an error of C");
    return !is_error;
}

bool exports_tidegate_plugin_response_hook_on_response(exports_tidegate_plugin_response_hook_borrow_request_t request,
                                                       exports_tidegate_plugin_response_hook_borrow_response_t response,
                                                       exports_tidegate_plugin_response_hook_verdict_t *ret,
                                                       stateful_plugin_string_t *err) {
    tidegate_plugin_http_request_drop_borrow(request);
    tidegate_plugin_http_response_drop_borrow(response);
    ret->tag = TIDEGATE_PLUGIN_HTTP_VERDICT_FORWARD;
    return true;
}

bool exports_tidegate_plugin_shutdown_hook_shutdown(uint64_t deadline_ms, stateful_plugin_string_t *err) {
    spin();
    return true;
}
